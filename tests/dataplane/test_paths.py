"""Which endpoint a path is, without a server; what goes up is what came, byte for byte."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from contracts.config.provider_settings import ProviderSetting
from gateway.endpoints.azure import can_report_usage
from gateway.endpoints.registry import Registry
from gateway.providers.registry import PROVIDERS
from gateway.routing.targets import BadBaseUrl, make_target, upstream_path
from gateway.values import Refusal

REGISTRY = Registry((provider.name, provider.dialect) for provider in PROVIDERS.values())
PREFIXES = [
    "/v1",
    "/api/providers/bedrock/anthropic/v1",
    *(f"/api/providers/{one.name}/v1" for one in PROVIDERS.values() if one.auth),
]
PREFIXES.remove("/api/providers/azure/v1")

pieces = st.sampled_from(
    [
        *("chat", "completions", "models", "organization", "v1", "messages", "files", "threads"),
        *("", ".", "..", "%2e", "%2E%2e", "%2f", "%5c", "\\", "%25", "%252f", ";a", "%00", "%6f"),
    ]
) | st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="/?#"))


@given(st.sampled_from(PREFIXES), st.lists(pieces, min_size=1, max_size=6))
@example("/v1", ["organization"])
@example("/v1", ["x", "..", "organization", "costs"])
def test_what_goes_up_is_what_came(prefix, segments):
    """Whatever is forwarded keeps its bytes, and has no segment that could lead elsewhere."""
    path = prefix + "/" + "/".join(segments)
    try:
        endpoint = REGISTRY.match("POST", path)
    except Refusal:
        return
    if endpoint is None:
        return
    assert endpoint.upstream_path == path[len(prefix) - len("/v1") :].encode()
    parts = endpoint.upstream_path.decode().split("/")[1:]
    assert not {".", ".."} & set(parts)
    assert "" not in parts[:-1]
    lowered = path.lower()
    assert not any(mark in lowered for mark in ("%2e%2e", "%5c", "\\", "%00", "%252f"))


@given(st.sampled_from(["GET", "POST", "DELETE", "PUT"]), st.lists(pieces, max_size=3))
def test_no_spelling_opens_the_account_at_the_provider(method, segments):
    """Escapes, parameters and case included; OpenAI keeps the roles of projects apart."""
    spellings = ("organization", "%6Frganization", "organizatio%6e", "Organization", "projects")
    for spelling in (*spellings, "organizations", "PROJECTS;a", "organization%73"):
        for prefix in PREFIXES:
            path = "/".join([prefix, spelling, *segments])
            try:
                endpoint = REGISTRY.match(method, path)
            except Refusal:
                continue
            assert endpoint is None or endpoint.is_closed


@pytest.mark.parametrize("path", ["/v1/deployments", "/v1/dreams/d", "/v1/agents", "/v1/vaults/v"])
def test_under_the_plain_root_the_headers_say_whose_path_it_is(path):
    """Where both vendors have it, or we know of neither; Anthropic's clients always say so."""
    of_anthropic = REGISTRY.match("GET", path, [(b"anthropic-version", b"2023-06-01")])
    of_openai = REGISTRY.match("GET", path, [(b"openai-beta", b"agents=v1")])

    assert of_anthropic is not None
    assert of_openai is not None
    assert (of_anthropic.dialect, of_openai.dialect) == ("anthropic", "openai")
    assert of_anthropic.upstream_path == of_openai.upstream_path == path.encode()


def test_the_account_is_as_closed_to_anthropic_s_clients_of_the_plain_root():
    """Whatever the headers say."""
    for headers in ([], [(b"anthropic-version", b"2023-06-01")], [(b"openai-beta", b"x")]):
        endpoint = REGISTRY.match("GET", "/v1/organizations/api_keys", headers)
        assert endpoint is not None
        assert endpoint.is_closed


@pytest.mark.parametrize(
    ("method", "path", "template", "model"),
    [
        ("POST", "/v1/chat/completions", "/v1/chat/completions", None),
        ("POST", "/v1/chat/completions/", "/v1/chat/completions", None),
        ("POST", "/v1/%63hat/completions", "/v1/chat/completions", None),
        ("PATCH", "/v1/chat/completions", "/v1/*wildcard", None),
        (
            "GET",
            "/api/providers/openai/v1/assistants/a",
            "/api/providers/openai/v1/assistants/:assistant_id",
            None,
        ),
        (
            "POST",
            "/api/providers/azure/openai/deployments/d/chat/completions",
            "/api/providers/azure/openai/deployments/:deployment_id/chat/completions",
            "d",
        ),
        (
            "POST",
            "/api/providers/azure/openai/deployments/d/new/thing",
            "/api/providers/azure/openai/deployments/:deployment_id/*wildcard",
            "d",
        ),
        ("DELETE", "/v1/models/ft:a%2Fb", "/v1/models/:model", "ft:a/b"),
        (
            "POST",
            "/api/providers/openai/v1/audios/translations",
            "/api/providers/openai/v1/audios/translations",
            None,
        ),
    ],
)
def test_templates_are_named_as_bricksllm_names_them(method, path, template, model):
    """An escaped or slashed spelling is the same endpoint; the path's model is read."""
    endpoint = REGISTRY.match(method, path)

    assert (endpoint.template, endpoint.model) == (template, model)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("TRACE", "/v1/chat/completions"),
        ("CONNECT", "/v1/chat/completions"),
        ("POST", "/v1"),
        ("POST", "/v1/"),
        ("POST", "/v2/chat/completions"),
        ("POST", "/api/providers/nobody/v1/chat/completions"),
        ("POST", "/api/providers/%6fpenai/v1/chat/completions"),
        ("POST", "/api/providers/azure/v1/chat/completions"),
        ("POST", "/api/providers/openai/chat/completions"),
    ],
)
def test_nothing_is_served_elsewhere(method, path):
    """None outside the prefixes, for other methods, and for a prefix that is spelt otherwise."""
    assert REGISTRY.match(method, path) is None


def setting(provider: str, **values: str) -> ProviderSetting:
    return ProviderSetting(id="s", provider=provider, setting=values, created_at=0, updated_at=0)


@pytest.mark.parametrize(
    ("provider", "values", "url"),
    [
        ("openai", {}, "https://api.openai.com/v1/x"),
        ("anthropic", {}, "https://api.anthropic.com/v1/x"),
        ("azure", {"resourceName": "mine"}, "https://mine.openai.azure.com/openai/v1/x"),
        ("vllm", {"url": "http://h:8000"}, "http://h:8000/v1/x"),
        ("vllm", {"url": "http://h:8000/v1/"}, "http://h:8000/v1/x"),
        ("deepinfra", {}, "https://api.deepinfra.com/v1/openai/x"),
        ("gemini", {}, "https://generativelanguage.googleapis.com/v1beta/openai/x"),
        ("mistral", {}, "https://api.mistral.ai/v1/x"),
        ("groq", {}, "https://api.groq.com/openai/v1/x"),
        ("groq", {"url": "https://api.groq.com/openai/v1"}, "https://api.groq.com/openai/v1/x"),
        ("openrouter", {}, "https://openrouter.ai/api/v1/x"),
        ("ollama", {}, "http://localhost:11434/v1/x"),
        ("deepseek", {}, "https://api.deepseek.com/v1/x"),
    ],
)
def test_each_provider_has_its_own_base(provider, values, url):
    """The one its documentation names; `url` replaces it."""
    target = make_target(setting(provider, **values), 1, {"apikey": "k" * 9}, PROVIDERS)

    origin = target.origin
    port = "" if origin.port in (80, 443) else f":{origin.port}"
    path = upstream_path(target, b"/v1/x").decode()
    assert f"{origin.scheme}://{origin.host}{port}{path}" == url


@pytest.mark.parametrize("name", ["", "evil.example/", "a b", "a@b", "x" * 64])
def test_a_resource_name_is_a_label(name):
    """Nothing in it may lead to another host."""
    with pytest.raises(BadBaseUrl):
        make_target(setting("azure", resourceName=name), 1, {"apikey": "k"}, PROVIDERS)


@pytest.mark.parametrize(
    ("query", "can"),
    [
        (b"api-version=2024-10-21", True),
        (b"a=1&api-version=2024-09-01-preview", True),
        (b"api-version=2024-08-01-preview", False),
        (b"api-version=preview", True),
        (b"", False),
    ],
)
def test_older_versions_of_azure_are_not_asked_for_usage(query, can):
    """They refuse a body with a member they do not know."""
    assert can_report_usage(query) is can
