"""Calls of a custom provider: one fixed URL a path, and an operator's word on what its JSON holds.

The credential is the member of the setting that `authentication_param` names, sent as
`Authorization: Bearer`; when none is named, `apikey` if the setting has one.
"""

import time
from functools import lru_cache, partial
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from contracts.config.provider_settings import RouteConfig
from contracts.exchange import TextPlaces
from gateway.asked import Asked
from gateway.configuration.snapshot import Snapshot
from gateway.endpoints.bodies import MODEL_CHARS_MAX
from gateway.endpoints.json_text import members_in
from gateway.entitlements.access import check_call
from gateway.entitlements.prices import check_readable
from gateway.means import Means
from gateway.ports import Origin
from gateway.routing.balance import in_order
from gateway.routing.course import Alternatives, Stop, Trip
from gateway.routing.targets import auth_of_custom, parse_origin
from gateway.values import Call, Endpoint, Principal, Refusal, Target
from rating.json_location import Location, NotReadable, parse_location

_DEFAULT_MEMBER: Final = "apikey"
_SPACE: Final = b" \t\r\n"
_decode_text = msgspec.json.Decoder(str).decode


class CustomErrand:
    """A call of the provider and path that its path names. Its answers are not kept."""

    keeps_s = 0.0
    takes_pieces = False

    def __init__(self, endpoint: Endpoint, snapshot: Snapshot) -> None:
        """Raises Refusal (404) when nobody described them."""
        name, path = endpoint.names
        provider = snapshot.custom_provider_by_name.get(name)
        if provider is None:
            raise _not_found("requested custom provider is not found")
        config = next((one for one in provider.route_configs if one.path == path), None)
        if config is None:
            raise _not_found("route config is not found")
        self._provider = provider
        self._config = config
        _, upstream_path, _ = _place_of(config.target_url)
        self.endpoint = msgspec.structs.replace(
            endpoint,
            name=f"custom.{name}",
            operation="custom",
            upstream_path=upstream_path,
            parse=partial(_call_of, config=config),
            text_places=TextPlaces(
                config.request_prompt_location,
                config.response_completion_location,
                config.stream_response_completion_location,
            ),
        )

    def call(self, call: Call) -> Call:
        """What was asked: as it was read."""
        return call

    def trip(self, asked: Asked, means: Means) -> Trip:
        """To the settings of this provider, in their order; the next one only when nothing arrived.

        Raises Refusal: 401 when the key has no setting with the credential, 403 for models and users.
        """
        endpoint, inbound = self.endpoint, asked.inbound
        call, principal, snapshot = asked.call, asked.principal, asked.snapshot
        check_readable(principal, call)
        check_call(
            principal,
            call,
            snapshot.users_by_user_id,
            inbound.method,
            endpoint.template,
            inbound.received_at_ms,
        )
        targets = self._targets(principal, call, snapshot)
        if len(targets) > 1:
            targets = in_order(
                targets, principal, call.user_id, call.model, means.health, means.draw
            )
        _, _, query = _place_of(self._config.target_url)
        stops = [Stop(target, call.model, endpoint, query, None) for target in targets]
        course = Alternatives(stops, time.monotonic() + asked.timeout_s, goes_on=False)
        return Trip(stops[0], None, course)

    def cache_key(self, _asked: Asked, _body: bytes) -> bytes:
        """Empty: nothing is kept."""
        return b""

    def _targets(self, principal: Principal, call: Call, snapshot: Snapshot) -> list[Target]:
        origin, _, _ = _place_of(self._config.target_url)
        member = self._provider.authentication_param
        found: list[Target] = []
        is_denied = False
        for setting_id in principal.setting_ids:
            target = snapshot.target_by_setting.get(setting_id)
            if target is None or target.ref.provider != self._provider.provider:
                continue
            if target.allowed_models and (call.model or "") not in target.allowed_models:
                is_denied = True
                continue
            auth = auth_of_custom(target, member or _DEFAULT_MEMBER)
            if auth is None and member:
                continue
            found.append(
                msgspec.structs.replace(
                    target, origin=origin, auth_headers={self.endpoint.dialect: auth or ()}
                )
            )
        if found:
            return found
        if is_denied:
            raise Refusal(
                403, "permission_error", "model_not_allowed", "model is not allowed", param="model"
            )
        raise Refusal(
            401,
            "authentication_error",
            "provider_setting_not_found",
            "the key has no provider setting for this path",
        )


def _call_of(body: bytes, config: RouteConfig) -> Call:
    """What a body holds at the places that were described. Raises Refusal (400) for no JSON."""
    try:
        model = _found(config.model_location, body)
        streams = _found(config.stream_location, body) if config.stream_location else False
    except NotReadable as error:
        raise Refusal(
            400, "invalid_request_error", "invalid_json", f"the request body is {error}"
        ) from None
    if isinstance(model, str) and len(model) > MODEL_CHARS_MAX:
        raise _bad_model(f"model is longer than {MODEL_CHARS_MAX} characters")
    if _is_named_twice(body, _location(config.model_location)):
        raise _bad_model("the model parameter is given more than once")
    named = model if isinstance(model, str) and model else None
    return Call(named, streams is True, None, False, hides_model=named is None)


def _is_named_twice(body: bytes, location: Location) -> bool:
    """Whether there are two members where one is looked for: readers may take either.

    Some are blind to upper and lower case. What lies in arrays is not looked at.
    """
    lowered = body.lower()
    names = [step.name.lower().encode() for step in location.steps]
    if b"\\u" not in lowered and all(lowered.count(b'"%b"' % name) < 2 for name in names):
        return False
    text = body
    for step in location.steps:
        if step.is_each or not text.lstrip(_SPACE).startswith(b"{"):
            return False
        wanted = step.name.lower()
        spans = [
            (start, end)
            for name, start, end in members_in(text)
            if _decode_text(name).lower() == wanted
        ]
        if len(spans) != 1:
            return len(spans) > 1
        text = text[spans[0][0] : spans[0][1]]
    return False


def _bad_model(message: str) -> Refusal:
    return Refusal(400, "invalid_request_error", "invalid_model", message, param="model")


def _found(location: str, body: bytes) -> Any:
    return _location(location).find_in(body)


@lru_cache(maxsize=4096)
def _location(text: str) -> Location:
    return parse_location(text)


@lru_cache(maxsize=4096)
def _place_of(url: str) -> tuple[Origin, bytes, bytes]:
    """Origin, path and query of a URL that was checked when it was described."""
    parts = urlsplit(url)
    return parse_origin(url), (parts.path or "/").encode("ascii"), parts.query.encode("ascii")


def _not_found(message: str) -> Refusal:
    return Refusal(404, "invalid_request_error", "not_found", message)
