"""How each path is billed: a table that neither the gateway nor the manual can leave behind."""

from collections import Counter
from pathlib import Path

import pytest

from gateway.endpoints.registry import Registry
from gateway.endpoints.templates import ANTHROPIC_ROWS, OPENAI_ROWS
from gateway.providers.registry import PROVIDERS
from rating.billing import POSTS, Billing, billing_of

ROOT = Path(__file__).parents[2]
ROWS = [*OPENAI_ROWS, *ANTHROPIC_ROWS]
KNOWN = {template for templates in POSTS.values() for template in templates.split()}
UNPRICED_BEFORE = {Billing.LATER, Billing.REPORT}
OPERATIONS = [
    line.split("\t") for line in (ROOT / "tests/data/api_operations.tsv").read_text().splitlines()
]


def test_every_path_of_the_gateway_is_in_the_table_and_no_other() -> None:
    """A path that is added must say how it is billed."""
    assert {row.template for row in ROWS if row.method == "POST"} == KNOWN
    assert {row.method for row in ROWS} == {"GET", "POST", "DELETE"}


def test_no_path_is_billed_in_two_ways() -> None:
    """Each template stands once."""
    assert sum(len(templates.split()) for templates in POSTS.values()) == len(KNOWN)


def test_what_the_gateway_calls_unpriced_has_no_price_before_it_ends() -> None:
    """Keys with budgets need a permission exactly where the answer may not tell the price."""
    for row in ROWS:
        billing = billing_of(row.method, f"/v1{row.template}")
        assert row.is_priced is (billing not in UNPRICED_BEFORE), (row.method, row.template)


def test_every_operation_of_the_vendors_is_billed_by_the_table() -> None:
    """On the provider's own surface as on the plain root; only the account's paths are not there."""
    registry = Registry((one.name, one.dialect) for one in PROVIDERS.values())
    seen: Counter[Billing] = Counter()
    for vendor, method, path_and_query, *_ in OPERATIONS:
        path = path_and_query.partition("?")[0]
        found = registry.match(method, f"/api/providers/{vendor}{path}")
        of_root = registry.match(method, path)
        assert found is not None
        assert of_root is not None
        if found.is_closed:
            continue
        billing = billing_of(method, found.template)
        assert billing_of(method, of_root.template) is billing
        if method == "POST":
            assert found.template.removeprefix(f"/api/providers/{vendor}/v1") in KNOWN
        else:
            assert billing is Billing.FREE
        seen[billing] += 1
    assert set(seen) == set(Billing)
    assert seen.total() > 250


@pytest.mark.parametrize(
    ("method", "template", "billing"),
    [
        ("POST", "/api/providers/azure/openai/deployments/:deployment_id/chat/completions", "answer"),
        ("POST", "/api/providers/azure/openai/files", "free"),
        ("POST", "/api/providers/azure/openai/v1/batches", "later"),
        ("POST", "/api/providers/deepinfra/v1/embeddings", "answer"),
        ("POST", "/api/providers/mistral/v1/moderations", "report or free"),
        ("POST", "/v1/audios/translations", "answer"),
        ("POST", "/v1/*wildcard", "answer"),
        ("PUT", "/v1/*wildcard", "answer"),
        ("DELETE", "/v1/*wildcard", "free"),
        ("POST", "/api/custom/providers/:provider/*wildcard", "answer"),
        ("POST", "/api/routes/*route", "answer"),
        ("POST", "", "answer"),
    ],
)  # fmt: skip
def test_a_template_is_billed_alike_under_every_prefix(
    method: str, template: str, billing: str
) -> None:
    """And what nobody knows is not free unless it reads."""
    assert billing_of(method, template) == billing


def test_the_manual_lists_the_table() -> None:
    """docs/billing.md names every path that is posted to, under its kind, and no other."""
    listed: dict[str, set[str]] = {}
    kind = ""
    for line in (ROOT / "docs/billing.md").read_text().splitlines():
        if line.startswith("### "):
            kind = line.removeprefix("### ").strip("`")
        elif line.startswith("- `/"):
            listed.setdefault(kind, set()).update(
                part for part in line.split("`") if part[:1] == "/"
            )
    assert listed == {kind.value: set(templates.split()) for kind, templates in POSTS.items()}
