"""Every method of a client that makes a request, found in the client itself, with arguments."""

import base64
import inspect
import itertools
import json
import re
import urllib.request
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Any, NamedTuple

from conftest import LANE, RECORDER

FILE = ("tölle.bin", bytes(range(256)) * 8, "application/octet-stream")
# What the two ways to the provider cannot have in common: whose connection it is, who pays, what
# the gateway reads (it asks for answers uncompressed), and numbers that the client draws by lot.
_OF_THE_WAY = {
    *("host", "connection", "accept-encoding", "content-length", "transfer-encoding"),
    *("authorization", "x-api-key", "api-key", "idempotency-key", "user-agent"),
}


def methods_of(client: Any, path: str = "") -> Iterator[tuple[str, Callable[..., Any]]]:
    """Dotted names, and what they are; in the order of their names."""
    package = type(client).__module__.partition(".")[0]
    for name in sorted(dir(type(client))):
        if name.startswith(("_", "with_")):
            continue
        found = inspect.getattr_static(type(client), name)
        if inspect.isfunction(found):
            if path:
                yield path + name, getattr(client, name)
        elif isinstance(found, property) or type(found).__name__ == "cached_property":
            inner = getattr(client, name)
            if type(inner).__module__.startswith(f"{package}.resources"):
                yield from methods_of(inner, f"{path}{name}.")


def _argument(name: str, annotation: str) -> Any:
    """Something of the kind that the annotation names; the clients do not look closer."""
    if "FileTypes" in annotation or name == "video":
        return [FILE] if annotation.startswith(("Iterable", "Sequence")) else FILE
    if "PathLike" in annotation:
        return FILE[1]
    if literal := re.match(r"Literal\[['\"]([^'\"]+)", annotation):
        return literal[1]
    if annotation.startswith(("str", "Union[str", "Optional[str")) or name == "model":
        return "m-1" if name == "model" else f"{name}-é 1" if name == "input" else f"{name}-1"
    if annotation.startswith("int"):
        return 7
    if annotation.startswith("bool"):
        return True
    if annotation.startswith(("SequenceNotStr[str", "List[str")):
        return ["one", "twö"]
    if annotation.startswith(("Iterable", "Sequence", "List")):
        return [{"role": "user", "content": "é\u2028", "type": "x"}]
    return {"type": "x", "a": "é"}


def arguments_of(method: Callable[..., Any]) -> dict[str, Any]:
    """What the method requires, by name."""
    return {
        name: _argument(name, str(parameter.annotation))
        for name, parameter in inspect.signature(method).parameters.items()
        if parameter.default is inspect.Parameter.empty
        and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    }


def can_stream(method: Callable[..., Any]) -> bool:
    """Whether it takes `stream=True`."""
    return "stream" in inspect.signature(method).parameters


def shown(result: Any) -> Any:
    """What a user gets to see of what a method returned, whole: pages turned, streams read."""
    if type(result).__name__.endswith("Manager"):
        with result as entered:
            return shown(entered)
    if hasattr(result, "iter_pages"):
        # These clients' pages are iterated over all of them.
        return [shown(one) for one in itertools.islice(result, 20)]
    if hasattr(result, "to_dict"):
        return result.to_dict(mode="json")
    if hasattr(result, "read"):
        return result.read()
    if isinstance(result, (str, bytes, int, type(None), dict)):
        return result
    return [shown(one) for one in itertools.islice(result, 20)]


class Outcome(NamedTuple):
    """What a call came to: for its user, and for the provider."""

    shown: Any
    heard: list[dict[str, Any]]
    credentials: set[str]


_serial = itertools.count()


def outcome_of(client: Any, name: str, more: dict[str, Any]) -> Outcome:
    """The call made. Raises what it raises, and AssertionError when no request came of it."""
    call = f"{next(_serial)}{LANE}"
    method = attrgetter(name)(client.with_options(default_headers={"x-call": call}))
    arguments = arguments_of(method) | more
    try:
        result = shown(method(**arguments))
    except TypeError as error:
        # Overloads: the first set of arguments that the client itself names.
        if "Missing required" not in str(error):
            raise
        parameters = inspect.signature(method).parameters
        first = re.search(r"\(.*?\)", str(error))
        names = re.findall(r"'(\w+)'", first[0] if first else str(error))
        missing = {
            one: _argument(one, str(parameters[one].annotation))
            for one in names
            if one in parameters and one not in arguments
        }
        result = shown(method(**arguments, **missing))
    requests = heard(call)
    assert requests, "the provider has heard nothing"
    credentials = {value for request in requests for value in request.pop("credentials")}
    return Outcome(result, requests, credentials)


def heard(call: str) -> list[dict[str, Any]]:
    """What the provider heard of a call, less what the way decides."""
    with urllib.request.urlopen(f"{RECORDER}/heard/{call}", timeout=60) as answer:
        requests = json.load(answer)
    for request in requests:
        headers = {name: value for name, value in request["headers"] if name not in _OF_THE_WAY}
        body = base64.b64decode(request["body"])
        if boundary := re.search(r"boundary=(\S+)", headers.get("content-type", "")):
            body = body.replace(boundary[1].encode(), b"BOUNDARY")
            headers["content-type"] = "multipart/form-data; boundary=BOUNDARY"
        headers.pop("x-call", None)
        request["credentials"] = [
            value
            for name, value in request["headers"]
            if name in ("authorization", "x-api-key", "api-key")
        ]
        request["headers"], request["body"] = headers, body
    return requests
