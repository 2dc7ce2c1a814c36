"""Calls of a route: its steps over the settings of the key, and answers that are kept.

A route's endpoint is known by its path alone; what it answers with, where it goes and in which
order is in the snapshot, and is looked up for every call.
"""

import time
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Final
from urllib.parse import quote

import msgspec

from contracts.config.routes import Route, RouteStep
from contracts.durations import parse_go_duration
from gateway.asked import Asked
from gateway.configuration.snapshot import Snapshot
from gateway.endpoints import bodies
from gateway.endpoints.azure import can_report_usage
from gateway.endpoints.canonical import canonical_digest
from gateway.endpoints.members import Members, check_writable, members_of, with_members
from gateway.endpoints.splices import ask_usage
from gateway.entitlements.access import check_call
from gateway.identity.query import without_credentials
from gateway.means import Means
from gateway.ports import HeaderPairs
from gateway.routing.attempts import Schedule, Step
from gateway.routing.balance import in_order
from gateway.routing.course import RouteCourse, Stop, Trip
from gateway.values import Call, Endpoint, Principal, Refusal, Target

_NS: Final = 1_000_000_000
_ASKING_HEADERS: Final = frozenset({b"anthropic-version", b"anthropic-beta", b"openai-beta"})
"""Of the request: they decide what kind of answer comes."""


class RouteErrand:
    """A call of the route that its path names."""

    takes_pieces = False

    def __init__(self, endpoint: Endpoint, principal: Principal, snapshot: Snapshot) -> None:
        """Raises Refusal: 404 when there is no such route, 401 for a key that may not use it."""
        route = snapshot.route_by_path.get(endpoint.names[0])
        if route is None:
            raise Refusal(404, "invalid_request_error", "route_not_found", "route not found")
        if principal.key_id not in route.key_ids:
            raise Refusal(401, "authentication_error", "not_authorized", "not authorized")
        self._route = route
        self._destinations: list[str] = []
        self._headers: HeaderPairs = []
        self.endpoint = _endpoint(route, endpoint)
        cache = route.cache_config
        self.keeps_s = _seconds(cache.ttl or "168h") if cache.enabled else 0.0

    def call(self, call: Call) -> Call:
        """What was asked: the model that the client names has no say, and it need not name one."""
        model = call.model or self._route.steps[0].model
        return msgspec.structs.replace(call, model=model, hides_model=False)

    def trip(self, asked: Asked, means: Means) -> Trip:
        """The steps that this key, for this user, may take, each with its settings in their order.

        Raises Refusal when there is none: 403 for models and users, 401 without a setting, 400 when
        the steps speak another dialect.
        """
        route, endpoint = self._route, self.endpoint
        call, inbound, principal = asked.call, asked.inbound, asked.principal
        snapshot = asked.snapshot
        refusal: Refusal | None = None
        steps: list[Step] = []
        stops: list[list[Stop]] = []
        for step in route.steps:
            try:
                check_call(
                    principal,
                    msgspec.structs.replace(call, model=step.model),
                    snapshot.users_by_user_id,
                    inbound.method,
                    endpoint.template,
                    inbound.received_at_ms,
                )
                targets = _targets(step, endpoint, principal, snapshot, call)
            except Refusal as found:
                refusal = found
                continue
            ordered = in_order(
                targets, principal, call.user_id, step.model, means.health, means.draw
            )
            stops.append(_stops(step, ordered, endpoint, inbound.query))
            steps.append(
                Step(
                    step.retries,
                    _seconds(step.retry_interval or "1s"),
                    route.retry_strategy == "exponential",
                    _seconds(step.timeout or "5m"),
                )
            )
        if not stops:
            assert refusal is not None, "a route has steps"
            raise refusal
        self._headers = [pair for pair in inbound.headers if pair[0] in _ASKING_HEADERS]
        self._destinations = sorted(
            f"{stop.model}\0{stop.target.ref.setting_id}\0{stop.target.ref.revision}"
            for step_stops in stops
            for stop in step_stops
        )
        schedule = Schedule(steps, time.monotonic() + asked.timeout_s, means.draw)
        names = frozenset(name for step in route.steps for name, _ in _members(step))
        first = stops[0][0]
        return Trip(
            first,
            partial(_first_body, names=names, first=first),
            RouteCourse(stops, schedule, turns_down_any=route.failover_on == "any"),
        )

    def cache_key(self, asked: Asked, body: bytes) -> bytes:
        """What the same call of the same key has alike; empty when the body's meaning is not clear.

        Answers are a key's own: nobody is given what another key was answered. Nor what came from
        where the key may no longer go. To be asked after `trip`.
        """
        return canonical_digest(
            body,
            b"2",
            msgspec.json.encode(self._route),
            asked.principal.key_id.encode(),
            self.endpoint.dialect.encode(),
            msgspec.json.encode(self._destinations),
            b"".join(b"%d:%b%d:%b" % (len(n), n, len(v), v) for n, v in self._headers),
            asked.inbound.query,
        )


def _first_body(body: bytes, names: frozenset[str], first: Stop) -> bytes:
    """The body as it goes to the first stop. Raises Refusal (400) when it cannot be edited."""
    check_writable(body, names)
    return body if first.edit is None else first.edit(body)


def _endpoint(route: Route, endpoint: Endpoint) -> Endpoint:
    replace = partial(msgspec.structs.replace, endpoint, route_id=route.id)
    if endpoint.dialect == "anthropic":
        return replace(
            name="anthropic.messages",
            operation="chat",
            upstream_path=b"/v1/messages",
            parse=bodies.maybe_model_of_anthropic,
        )
    if route.wants_embeddings:
        return replace(
            name="openai.embeddings", operation="embeddings", upstream_path=b"/v1/embeddings"
        )
    return replace(
        name="openai.chat_completions",
        operation="chat",
        upstream_path=b"/v1/chat/completions",
        ask_usage=ask_usage,
    )


def _targets(
    step: RouteStep, endpoint: Endpoint, principal: Principal, snapshot: Snapshot, call: Call
) -> list[Target]:
    of_provider = [
        target
        for setting_id in principal.setting_ids
        if (target := snapshot.target_by_setting.get(setting_id)) is not None
        and target.ref.provider == step.provider
    ]
    if not of_provider:
        raise Refusal(
            401,
            "authentication_error",
            "provider_setting_not_found",
            f"the key has no provider setting for {step.provider}",
        )
    speaking = [target for target in of_provider if endpoint.dialect in target.auth_headers]
    if not speaking:
        raise Refusal(
            400,
            "invalid_request_error",
            "unsupported_path",
            f"the route's providers do not speak the dialect of {endpoint.dialect}",
        )
    allowed = [
        target
        for target in speaking
        if not target.allowed_models
        or target.allowed_models.issuperset((step.model, *call.other_models))
    ]
    if not allowed:
        raise Refusal(
            403, "permission_error", "model_not_allowed", f"model {step.model} is not allowed"
        )
    return allowed


def _stops(
    step: RouteStep, targets: Sequence[Target], endpoint: Endpoint, query: bytes
) -> list[Stop]:
    query = without_credentials(query) if query else b""
    if step.provider == "azure":
        endpoint, query = _of_azure(step, endpoint, query)
    members = _members(step)
    if any(name == "stream" and value != b"true" for name, value in members):
        endpoint = msgspec.structs.replace(endpoint, ask_usage=None)
    edit = partial(with_members, members=members)
    return [Stop(target, step.model, endpoint, query, edit) for target in targets]


def _of_azure(step: RouteStep, endpoint: Endpoint, query: bytes) -> tuple[Endpoint, bytes]:
    params = step.params or {}
    deployment = quote(params.get("deploymentId", ""), safe="").encode()
    version = quote(params.get("apiVersion", ""), safe="").encode()
    others = [part for part in query.split(b"&") if part and not part.startswith(b"api-version=")]
    query = b"&".join([b"api-version=" + version, *others])
    path = b"/openai/deployments/" + deployment + endpoint.upstream_path.removeprefix(b"/v1")
    asks = endpoint.ask_usage if can_report_usage(query) else None
    return msgspec.structs.replace(endpoint, upstream_path=path, ask_usage=asks), query


@lru_cache(maxsize=1024)
def _members_of(model: str, request_params: str) -> Members:
    """A model that the parameters name does not count: the step's own has been checked."""
    given = members_of(request_params)
    others = tuple(pair for pair in given if pair[0] != "model")
    return (("model", msgspec.json.encode(model)), *others)


def _members(step: RouteStep) -> Members:
    return _members_of(step.model, step.request_params)


@lru_cache(maxsize=1024)
def _seconds(text: str) -> float:
    return parse_go_duration(text) / _NS
