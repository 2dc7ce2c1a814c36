"""`/api/policies`."""

from typing import Any, Final

from gateway.administration import policies
from gateway.administration.policies_wire import NewPolicy, PolicyWire, to_wire
from gateway.administration.store import Store
from gateway.api.operation import QueryParameter
from gateway.api.resource import Resource, Says, Words

_PATH: Final = "/api/policies"
_NOT_FOUND: Final = "policy is not found"
_UPDATING: Final = "update a policy failed"
_TAGS: Final = QueryParameter(
    "tags", "all of these tags", repeats=True, is_required=True, example="org-1"
)

_EXAMPLE: Final = {
    "name": "no secrets",
    "tags": ["org-1"],
    "config": {"rules": {"email": "allow_but_redact", "ssn": "block"}},
    "regexConfig": {"rules": [{"definition": "AKIA[0-9A-Z]{16}", "action": "block"}]},
    "customConfig": {"rules": [{"definition": "names of customers", "action": "allow_but_warn"}]},
}
_ANSWER_EXAMPLE: Final = {
    "id": "019ab0c4-5d2e-7c1a-9f00-2b7a4f1d6e55",
    "createdAt": 1767225600,
    "updatedAt": 1767225600,
    **_EXAMPLE,
}


def handlers(store: Store) -> list[Any]:
    """The routes of this resource."""
    words = Words("policy creation failed", _NOT_FOUND)
    resource = Resource(store, _PATH, "policy_id", PolicyWire, to_wire, _ANSWER_EXAMPLE, words)
    return [
        resource.creates(
            NewPolicy,
            policies.create,
            Says("Create a policy", "Regular expressions are written in RE2's syntax.", _EXAMPLE),
        ),
        resource.lists(
            lambda asked, reading: policies.find(asked.query_params.getall("tags", []), reading),
            Says(
                "Find policies by tags", query=(_TAGS,), words=Words("get policies by tags failed")
            ),
        ),
        resource.shows(policies.get, Says("Get a policy")),
        resource.changes(
            NewPolicy,
            policies.patch,
            Says(
                "Change a policy",
                "What is absent stays; a configuration is replaced whole.",
                {"name": "fewer secrets"},
                _ANSWER_EXAMPLE | {"name": "fewer secrets"},
                words=Words(_UPDATING, _UPDATING, "policie/updates", instance=_PATH),
            ),
        ),
        resource.deletes_unless_used(
            policies.delete,
            Says(
                "Delete a policy",
                "Refused while keys use it; forced, they have no policy then.",
                words=Words("policy deletion failed", _NOT_FOUND),
            ),
        ),
    ]
