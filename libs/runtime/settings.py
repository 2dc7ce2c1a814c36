"""Settings from the environment: one frozen struct a service, every problem reported at once.

A field `request_body_bytes_max` is read from `REQUEST_BODY_BYTES_MAX`. Its msgspec Meta has the
line of the settings table (`description`), a number's bounds (`ge`, `le`) and whether a text is a
URL (`url`). Types: str, int, bool, Secret, Duration, Choices (Literal).
"""

import os
import re
import types
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeVar, Union, get_args, get_origin

import msgspec

from runtime.urls import PORT_MAX, require_ports

Settings = TypeVar("Settings", bound=msgspec.Struct)

_DURATION_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ns|us|ms|s|m|h|d)")
_SECONDS_BY_UNIT: Final = {
    "ns": 1e-9,
    "us": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
    "d": 86400.0,
}


class Secret(str):
    """A text that never shows itself: printing or logging it gives asterisks."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'" if self else "''"

    __str__ = __repr__

    def reveal(self) -> str:
        """The text itself."""
        return str.__str__(self)


class Duration(float):
    """Seconds, written `10m`, `1h30m`, `250ms`, or a bare number of seconds."""

    __slots__ = ()


class BadSettings(ValueError):
    """One or more settings cannot be used; `problems` names each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def port(description: str, *, lowest: int = 1) -> msgspec.Meta:
    """The Meta of a TCP port. 0, where a setting may be that, takes any free one."""
    return msgspec.Meta(description=description, ge=lowest, le=PORT_MAX)


def url(description: str) -> msgspec.Meta:
    """The Meta of a URL, or of several, comma separated: one without a usable port is refused."""
    return msgspec.Meta(description=description, extra={"is_url": True})


def parse_duration(text: str) -> Duration:
    """Raises ValueError when it is neither a number of seconds nor number-unit parts."""
    try:
        return Duration(float(text))
    except ValueError:
        pass
    parts = _DURATION_PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is no duration; write 10m, 1h30m, 250ms or seconds")
    return Duration(sum(float(number) * _SECONDS_BY_UNIT[unit] for number, unit in parts))


def _parse(text: str, kind: Any) -> Any:
    if get_origin(kind) is Annotated:
        kind, *extras = get_args(kind)
        value = _parse(text, kind)
        for extra in extras:
            if isinstance(extra, msgspec.Meta):
                _require_within(value, extra.ge, extra.le)
                if extra.extra and extra.extra.get("is_url"):
                    require_ports(text)
        return value
    if get_origin(kind) in (Union, types.UnionType):
        if text == "":
            return None
        kind = next(choice for choice in get_args(kind) if choice is not type(None))
    if get_origin(kind) is Literal:
        if text not in get_args(kind):
            raise ValueError(f"{text!r} is none of {', '.join(map(str, get_args(kind)))}")
        return text
    if kind is bool:
        lowered = text.lower()
        if lowered in ("1", "true", "yes", "on"):
            return True
        if lowered in ("0", "false", "no", "off", ""):
            return False
        raise ValueError(f"{text!r} is neither true nor false")
    if kind is int:
        return int(text.replace("_", ""))
    if kind is Duration:
        return parse_duration(text)
    return kind(text)


def _require_within(value: Any, least: float | None, most: float | None) -> None:
    if least is not None and value < least:
        raise ValueError(f"{show(value)} is less than {least}")
    if most is not None and value > most:
        raise ValueError(f"{show(value)} is more than {most}")


def load(cls: type[Settings], environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of a service. Raises BadSettings with every problem found."""
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    problems: list[str] = []
    for field in msgspec.structs.fields(cls):
        name = field.name.upper()
        text = environ.get(name)
        if text is None:
            if field.required:
                problems.append(f"{name} is not set")
            continue
        try:
            values[field.name] = _parse(text, field.type)
        except ValueError as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise BadSettings(problems)
    return cls(**values)


class SettingRow(msgspec.Struct, frozen=True):
    """One line of the settings table."""

    name: str
    default: str
    description: str


def describe(cls: type[msgspec.Struct]) -> list[SettingRow]:
    """The settings table of a service, in the order of its fields."""
    rows = []
    for field in msgspec.structs.fields(cls):
        description = ""
        if get_origin(field.type) is Annotated:
            for extra in get_args(field.type)[1:]:
                if isinstance(extra, msgspec.Meta) and extra.description:
                    description = extra.description
        default = "" if field.required else show(field.default)
        rows.append(SettingRow(field.name.upper(), default, description))
    return rows


def show(value: Any) -> str:
    """A setting's value for people: secrets masked, durations in seconds."""
    if isinstance(value, Secret):
        return "***" if value else ""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Duration):
        return f"{float(value):g}s"
    return str(value)
