"""The rules of the route table that need no database."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from contracts.config.routes import is_embedding_model
from contracts.durations import parse_go_duration
from gateway.administration.invalid import Invalid, holds_nul
from gateway.administration.limit_rules import TEXT_BYTES_MAX, wrong_texts
from gateway.administration.routes_wire import CacheConfigWire, NewRoute, StepWire

KIND: Final = "route-manager"

STEPS_MAX: Final = 20
RETRIES_MAX: Final = 20
"""Of one step."""
PATH_BYTES_MAX: Final = 1024
"""It is indexed."""
WORD_BYTES_MAX: Final = 1024
"""Of a model's name and of a request format."""
PARAMS_BYTES_MAX: Final = 65_536
"""Of a step's `params` and of its `requestParams`: every gateway worker holds them."""
CACHE_TTL_NS_MAX: Final = 720 * 3600 * 1_000_000_000

_NUMBERS: Final = (
    "frequency_penalty",
    "max_tokens",
    "temperature",
    "top_p",
    "n",
    "presence_penalty",
    "seed",
    "top_logprobs",
)
_AZURE_PARAMS: Final = ("apiVersion", "deploymentId")


def check(new: NewRoute, dialects_by_provider: Mapping[str, frozenset[str]], title: str) -> None:
    """Raises Invalid; `title` is the error's where the original's is not the one of validation."""
    steps = new.steps or []
    wrong = [
        *([] if _is_text(new.name, TEXT_BYTES_MAX) else ["name"]),
        *([] if _is_path(new.path) else ["path"]),
        *(wrong_texts("keyIds", new.key_ids) if new.key_ids else ["keyIds"]),
        *([] if 0 < len(steps) <= STEPS_MAX else ["steps"]),
        *([] if new.retry_strategy in ("", "exponential", "constant") else ["retryStrategy"]),
    ]
    for i, step in enumerate(steps[:STEPS_MAX]):
        if step.provider and step.provider not in dialects_by_provider:
            supported = ", ".join(sorted(dialects_by_provider))
            raise Invalid(
                f"steps.[{i}].provider is not supported. Only {supported} are supported",
                kind=KIND,
                title=title,
            )
        wrong += [f"steps.[{i}].{field}" for field in _wrong_in_step(step)]
    wrong += _wrong_in_cache_config(new.cache_config)
    if len(new.request_format.encode()) > WORD_BYTES_MAX:
        wrong.append("requestFormat")
    if new.failover_on not in ("retryable", "any"):
        wrong.append("failoverOn")
    if wrong:
        raise Invalid(f"invalid fields in route: {','.join(wrong)}")
    _check_congruence(new, dialects_by_provider, title)
    if holds_nul([new.name, new.path, new.request_format, *(new.key_ids or ())]):
        raise Invalid("NUL is not allowed")
    for step in steps:
        params = step.params or {}
        if holds_nul([step.model, *params, *params.values()]):
            raise Invalid("NUL is not allowed")


def _check_congruence(
    new: NewRoute, dialects_by_provider: Mapping[str, frozenset[str]], title: str
) -> None:
    """An API in common, and one kind of answer; a format that is given says itself which kind it is."""
    steps = new.steps or []
    spoken = [dialects_by_provider[step.provider] for step in steps]
    if not frozenset.intersection(*spoken):
        raise Invalid(
            "steps must have congruent providers."
            " Providers without an API in common cannot be in the same route config",
            kind=KIND,
            title=title,
        )
    if not new.request_format and len({is_embedding_model(step.model) for step in steps}) > 1:
        raise Invalid(
            "steps must have congruent models."
            " Chat completion and embedding models cannot be in the same route config",
            kind=KIND,
            title=title,
        )


def _is_text(text: str, bytes_max: int) -> bool:
    return 0 < len(text.encode()) <= bytes_max


def _is_path(path: str) -> bool:
    """Such as a request can name: absolute, and nothing in it that a client would resolve."""
    return (
        _is_text(path, PATH_BYTES_MAX)
        and path.startswith("/")
        and ".." not in path
        and not any(char in "?#\x7f" or char < " " or char.isspace() for char in path)
    )


def _wrong_in_step(step: StepWire) -> list[str]:
    params = step.params or {}
    params_bytes = sum(len(text.encode()) for pair in params.items() for text in pair)
    return [
        *([] if step.provider else ["provider"]),
        *([] if _is_interval(step.retry_interval) else ["retryInterval"]),
        *(
            [f"params.{name}" for name in _AZURE_PARAMS if not params.get(name)]
            if step.provider == "azure"
            else []
        ),
        *([] if params_bytes <= PARAMS_BYTES_MAX else ["params"]),
        *([] if _is_text(step.model, WORD_BYTES_MAX) else ["model"]),
        *_wrong_in_request_params(step.request_params),
        *([] if 0 <= step.retries <= RETRIES_MAX else ["retries"]),
        *([] if not step.timeout or _nanoseconds(step.timeout) > 0 else ["timeout"]),
    ]


def _nanoseconds(text: str) -> int:
    """A Go duration's, -1 for a text that is none."""
    try:
        return parse_go_duration(text)
    except ValueError:
        return -1


def _is_interval(text: str) -> bool:
    return not text or (text.endswith("s") and _nanoseconds(text) >= 0)


def _wrong_in_request_params(raw: msgspec.Raw | None) -> list[str]:
    if raw is None:
        return []
    try:
        values = msgspec.json.decode(raw, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ["requestParams"]
    if len(bytes(raw)) > PARAMS_BYTES_MAX:
        return ["requestParams"]
    wrong: list[str] = [
        name for name in _NUMBERS if name in values and not _is_number(values[name])
    ]
    if "stop" in values and not _is_array_of_texts(values["stop"]):
        wrong.append("stop")
    if "logit_bias" in values and not _is_map_of_numbers(values["logit_bias"]):
        wrong.append("logit_bias")
    if "logprobs" in values and not isinstance(values["logprobs"], bool):
        wrong.append("logprobs")
    return [f"requestParams.{name}" for name in wrong]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_array_of_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, str) for one in value)


def _is_map_of_numbers(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(map(_is_number, value.values()))


def _wrong_in_cache_config(config: CacheConfigWire | None) -> list[str]:
    if config is None:
        return ["cacheConfig"]
    if not config.ttl:
        return []
    ttl_ns = _nanoseconds(config.ttl)
    if ttl_ns > CACHE_TTL_NS_MAX:
        raise Invalid("cacheConfig.ttl exceedes 30 days")
    return [] if ttl_ns > 0 else ["cacheConfig.ttl"]
