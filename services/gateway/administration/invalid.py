"""What an admin request got wrong."""


class Invalid(ValueError):
    """The request cannot be accepted; the message is for its sender."""


class NotFound(LookupError):
    """There is no such thing."""


class Conflict(ValueError):
    """Something else already has that name."""
