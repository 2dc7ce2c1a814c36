"""Walks an OpenAPI document of ours against the running service that serves it."""

import itertools
import re
from collections.abc import Iterator
from typing import Any

import httpx
from jsonschema import Draft202012Validator

_CREATES = ("post", "put")
_RANK = {"put": 0, "post": 0, "get": 1, "patch": 2, "delete": 3}
_PARAMETER = re.compile(r"\{([^}]+)\}")
_NAMES_THAT_MUST_DIFFER = {
    "/api/admin-tokens": "name",
    "/api/key-management/keys": "key",
    "/api/custom/providers": "provider",
    "/api/routes": "path",
    "/api/model-aliases": "alias",
}
"""The member of an example that no second thing may have."""


class Call:
    """One request that the document describes."""

    def __init__(self, template: str, method: str, operation: dict[str, Any]) -> None:
        self.template = template
        self.method = method
        self.operation = operation

    def __repr__(self) -> str:
        return f"{self.method.upper()} {self.template}"

    @property
    def body_example(self) -> Any:
        """The example of the body; None when there is no body."""
        content = self.operation.get("requestBody", {}).get("content", {})
        return content.get("application/json", {}).get("example")

    @property
    def body_schema(self) -> Any:
        """The schema of the body; None when there is no body."""
        content = self.operation.get("requestBody", {}).get("content", {})
        return content.get("application/json", {}).get("schema")

    @property
    def parameters(self) -> list[dict[str, Any]]:
        """Path and query parameters, as the document has them."""
        return list(self.operation.get("parameters", ()))

    @property
    def writes(self) -> bool:
        """Whether it changes something: whoever may only read may not use it."""
        return self.operation.get("x-scope", "read") != "read"


class Description:
    """A document, and what it says of answers."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document

    def calls(self) -> list[Call]:
        """Every operation: what makes things first, what deletes them last."""
        found = [
            Call(template, method, operation)
            for template, methods in self.document["paths"].items()
            for method, operation in methods.items()
        ]
        return sorted(found, key=lambda call: (_RANK[call.method], call.template, call.method))

    def problems_of(self, call: Call, answer: httpx.Response) -> Iterator[str]:
        """What of an answer the document does not say."""
        responses = call.operation["responses"]
        described = responses.get(str(answer.status_code))
        if described is None:
            yield f"{call!r}: {answer.status_code} is not documented: {answer.text[:300]}"
            return
        content = described.get("content")
        if content is None:
            if answer.content:
                yield f"{call!r}: {answer.status_code} has a body: {answer.text[:300]}"
            return
        given = answer.headers.get("content-type", "").partition(";")[0]
        if given not in content:
            yield f"{call!r}: {answer.status_code} is {given!r}, not one of {list(content)}"
        elif given == "application/json":
            for problem in self.mismatches(content[given]["schema"], answer.json()):
                yield f"{call!r}: {answer.status_code}: {problem}"

    def mismatches(self, schema: dict[str, Any], value: Any) -> Iterator[str]:
        """Where a value is not as a schema of the document says."""
        whole = {**schema, "components": self.document["components"]}
        for error in Draft202012Validator(whole).iter_errors(value):
            yield f"{error.json_path}: {error.message[:300]}"


class World:
    """Things to refer to, made on the running service from the document's own examples."""

    def __init__(self, client: httpx.Client, description: Description, upstream_url: str) -> None:
        self._client = client
        self._numbers = itertools.count(1)
        self._creators = {
            call.template: call
            for call in reversed(description.calls())
            if call.method in _CREATES and call.body_example is not None
        }
        self._upstream_url = upstream_url
        self._known: dict[str, Any] = {}
        setting_id = self.make("/api/provider-settings")
        self._known = {"settingId": setting_id, "settingIds": [setting_id], "ids": setting_id}
        key_id = self.make("/api/key-management/keys")
        policy_id = self.make("/api/policies")
        self.make("/api/users")
        self._known |= {
            "keyIds": [key_id],
            "keyId": key_id,
            "key_id": key_id,
            "policyId": policy_id,
            "preferredSettingId": setting_id,
            "userId": "ada",
            "userIds": "ada",
            "tag": "team-a",
            "tags": "team-a",
        }

    def make(self, template: str) -> str:
        """A new thing at this path; its id."""
        answer = self.send(self._creators[template])
        assert answer.status_code == 200, f"{template}: {answer.text}"
        made = answer.json()
        return str(made.get("id") or made["keyId"])

    def send(self, call: Call, **options: Any) -> httpx.Response:
        """The call as its examples have it, with things that exist."""
        return self._client.request(
            call.method.upper(),
            self.path(call),
            params=self.query(call),
            **({"json": self.body(call)} if call.body_example is not None else {}),
            **options,
        )

    def path(self, call: Call) -> str:
        """Its path, with a fresh thing's id where the template asks for one that can be made."""
        path = call.template
        for name in _PARAMETER.findall(path):
            collection = path[: path.index(f"/{{{name}}}")]
            is_made_here = collection in self._creators
            value = self.make(collection) if is_made_here else self._known[name]
            path = path.replace(f"{{{name}}}", value)
        return path

    def query(self, call: Call) -> dict[str, Any]:
        """Its query: the examples, and what is known by the parameters' names."""
        given: dict[str, Any] = {}
        for parameter in call.parameters:
            if parameter["in"] != "query":
                continue
            value = parameter.get("example", self._known.get(parameter["name"]))
            if value is not None:
                given[parameter["name"]] = value
        return given

    def body(self, call: Call) -> Any:
        """Its body's example, referring to what exists and unlike any other where it must be."""
        body = dict(call.body_example)
        for name in body.keys() & self._known.keys() - {"tags", "userId"}:
            body[name] = self._known[name]
        if call.template == "/api/provider-settings" and "setting" in body:
            body["setting"] = {**body["setting"], "url": self._upstream_url}
        unique = _NAMES_THAT_MUST_DIFFER.get(call.template)
        if unique in body:
            body[unique] = f"{body[unique]}{next(self._numbers)}"
        if call.template == "/api/users" and call.method in _CREATES and "userId" in self._known:
            body["userId"] = f"ada{next(self._numbers)}"
        return body
