"""What each path does: its operation in the books, and what is read of its body."""

from collections.abc import Callable
from typing import Final, NamedTuple

from gateway.endpoints import bodies
from gateway.endpoints.splices import ask_usage
from gateway.values import Call

Parse = Callable[[bytes], Call]


class Operation(NamedTuple):
    """`name` as OpenTelemetry calls it, or ours. `ask_usage`: None where there is no need."""

    name: str
    parse: Parse
    ask_usage: Callable[[bytes], bytes] | None = None


OTHER: Final = Operation("other", bodies.silent)
UNKNOWN: Final = Operation("other", bodies.maybe_model)
UNKNOWN_OF_ANTHROPIC: Final = Operation("other", bodies.maybe_model_of_anthropic)

OPENAI: Final[dict[str, Operation]] = {
    "/chat/completions": Operation("chat", bodies.model_and_user, ask_usage),
    "/completions": Operation("text_completion", bodies.model_and_user, ask_usage),
    "/embeddings": Operation("embeddings", bodies.model_and_user),
    "/responses": Operation("responses", bodies.maybe_model),
    "/responses/compact": Operation("responses", bodies.maybe_model),
    "/responses/input_tokens": Operation("count_tokens", bodies.maybe_model),
    "/moderations": Operation("moderation", bodies.maybe_model),
    "/images/generations": Operation("image_generation", bodies.maybe_model),
    "/images/edits": Operation("image_edit", bodies.maybe_model),
    "/images/variations": Operation("image_variation", bodies.maybe_model),
    "/audio/speech": Operation("audio_speech", bodies.maybe_model),
    "/audio/transcriptions": Operation("audio_transcription", bodies.maybe_model),
    "/audio/translations": Operation("audio_translation", bodies.maybe_model),
    "/assistants": Operation("create_agent", bodies.maybe_model),
    "/assistants/:assistant_id": Operation("other", bodies.maybe_model),
    "/threads/runs": Operation("invoke_agent", bodies.maybe_model),
    "/threads/:thread_id/runs": Operation("invoke_agent", bodies.maybe_model),
    "/threads/:thread_id/runs/:run_id/submit_tool_outputs": Operation(
        "invoke_agent", bodies.maybe_model
    ),
    "/batches": Operation("batch", bodies.maybe_model),
    "/evals": Operation("evaluation", bodies.evaluation),
    "/evals/:eval_id/runs": Operation("evaluation", bodies.evaluation),
    "/fine_tuning/alpha/graders/run": Operation("evaluation", bodies.evaluation),
    "/fine_tuning/jobs": Operation("fine_tuning", bodies.maybe_model),
    "/realtime/calls": Operation("realtime", bodies.session_of_realtime),
    "/realtime/calls/:call_id/accept": Operation("realtime", bodies.session_of_realtime),
    "/realtime/client_secrets": Operation("realtime", bodies.session_of_realtime),
    "/realtime/sessions": Operation("realtime", bodies.session_of_realtime),
    "/realtime/transcription_sessions": Operation("realtime", bodies.session_of_realtime),
    "/realtime/translations/client_secrets": Operation("realtime", bodies.session_of_realtime),
    "/videos": Operation("video_generation", bodies.maybe_model),
    "/videos/edits": Operation("video_generation", bodies.maybe_model),
    "/videos/extensions": Operation("video_generation", bodies.maybe_model),
    "/videos/:video_id/remix": Operation("video_generation", bodies.maybe_model),
}
"""What `POST` does there; every other path and method is OTHER."""

ANTHROPIC: Final[dict[str, Operation]] = {
    "/messages": Operation("chat", bodies.model_and_metadata),
    "/complete": Operation("text_completion", bodies.model_and_metadata),
    "/chat/completions": Operation("chat", bodies.model_and_user, ask_usage),
    "/messages/count_tokens": Operation("count_tokens", bodies.model_and_metadata),
    "/messages/batches": Operation("batch", bodies.batch_of_anthropic),
    "/agents": Operation("create_agent", bodies.maybe_model_of_anthropic),
    "/agents/:agent_id": Operation("other", bodies.maybe_model_of_anthropic),
    "/sessions": Operation("invoke_agent", bodies.maybe_model_of_anthropic),
    "/sessions/:session_id/events": Operation("invoke_agent", bodies.maybe_model_of_anthropic),
}

PARSE_WITH_MODEL_IN_PATH: Final[dict[Parse, Parse]] = {bodies.model_and_user: bodies.maybe_model}
"""Readers where the path already names the model."""
