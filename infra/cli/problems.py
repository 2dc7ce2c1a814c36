"""What went wrong with a command, in words; None for what only a trace can explain."""


class Problem(Exception):
    """Said to the person as it is."""


def explain(error: Exception) -> str | None:
    """Text for a person."""
    if isinstance(error, Problem):
        return str(error)
    from infra.embedded.problems import explain as explain_instance

    return explain_instance(error)
