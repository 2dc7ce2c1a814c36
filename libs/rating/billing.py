"""How each path of a vendor's API is billed: what `docs/billing.md` lists and metering goes by."""

import re
from enum import StrEnum
from functools import lru_cache
from typing import Final

_READING_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})
_SURFACE: Final = re.compile(
    r"/api/providers/azure/openai(?:/deployments/:deployment_id|/v1)?(?=/)"
    r"|/api/providers/[^/]+/v1(?=/)"
    r"|/v1(?=/)"
)
_TEMPLATES_KEPT_MAX: Final = 4096


class Billing(StrEnum):
    """What an answered request costs; `free` alone is zero, everything else unknown is null."""

    ANSWER = "answer"  # by the usage that the answer reports, else by what is counted, else unknown
    REPORT = "report"  # by the usage that the answer reports, else unknown
    REPORT_OR_FREE = "report or free"  # by the usage that the answer reports, else nothing
    LATER = "later"  # for work that is done later, or by the hour: unknown
    FREE = "free"  # nothing: it reads, deletes, stores or describes something


POSTS: Final[dict[Billing, str]] = {
    Billing.ANSWER: """
        /audio/speech /audio/transcriptions /audio/translations /audio/voices
        /chat/completions /complete /completions /content_provenance_checks /embeddings
        /images/edits /images/generations /images/variations
        /messages /responses /responses/compact
    """,
    Billing.REPORT: """
        /threads/runs /threads/:thread_id/runs
        /threads/:thread_id/runs/:run_id/submit_tool_outputs
    """,
    Billing.REPORT_OR_FREE: """
        /messages/count_tokens /moderations /responses/input_tokens
    """,
    Billing.LATER: """
        /batches /chatkit/sessions /containers /evals /evals/:eval_id/runs
        /fine_tuning/alpha/graders/run /fine_tuning/jobs
        /fine_tuning/jobs/:fine_tuning_job_id/resume
        /messages/batches
        /realtime/calls /realtime/calls/:call_id/accept /realtime/client_secrets
        /realtime/sessions /realtime/transcription_sessions
        /realtime/translations/client_secrets
        /sessions /sessions/:session_id/events
        /vector_stores /vector_stores/:vector_store_id/file_batches
        /vector_stores/:vector_store_id/files /vector_stores/:vector_store_id/search
        /videos /videos/:video_id/remix /videos/characters /videos/edits /videos/extensions
    """,
    Billing.FREE: """
        /agents /agents/:agent_id /agents/:agent_id/archive
        /assistants /assistants/:assistant_id /assistants/:assistant_id/files
        /audio/voice_consents /audio/voice_consents/:consent_id
        /batches/:batch_id/cancel
        /chat/completions/:completion_id
        /chatkit/sessions/:session_id/cancel
        /containers/:container_id/files
        /conversations /conversations/:conversation_id /conversations/:conversation_id/items
        /environments /environments/:environment_id /environments/:environment_id/archive
        /evals/:eval_id /evals/:eval_id/runs/:run_id
        /files
        /fine_tuning/alpha/graders/validate
        /fine_tuning/checkpoints/:fine_tuned_model_checkpoint/permissions
        /fine_tuning/jobs/:fine_tuning_job_id/cancel /fine_tuning/jobs/:fine_tuning_job_id/pause
        /memory_stores /memory_stores/:memory_store_id /memory_stores/:memory_store_id/archive
        /memory_stores/:memory_store_id/memories
        /memory_stores/:memory_store_id/memories/:memory_id
        /memory_stores/:memory_store_id/memory_versions/:memory_version_id/redact
        /messages/batches/:message_batch_id/cancel
        /realtime/calls/:call_id/hangup /realtime/calls/:call_id/refer
        /realtime/calls/:call_id/reject
        /responses/:response_id/cancel
        /sessions/:session_id /sessions/:session_id/archive /sessions/:session_id/resources
        /sessions/:session_id/resources/:resource_id
        /sessions/:session_id/threads/:thread_id/archive
        /skills /skills/:skill_id /skills/:skill_id/versions
        /threads /threads/:thread_id /threads/:thread_id/messages
        /threads/:thread_id/messages/:message_id
        /threads/:thread_id/runs/:run_id /threads/:thread_id/runs/:run_id/cancel
        /uploads /uploads/:upload_id/cancel /uploads/:upload_id/complete /uploads/:upload_id/parts
        /user_profiles /user_profiles/:user_profile_id
        /user_profiles/:user_profile_id/enrollment_url
        /vaults /vaults/:vault_id /vaults/:vault_id/archive /vaults/:vault_id/credentials
        /vaults/:vault_id/credentials/:credential_id
        /vaults/:vault_id/credentials/:credential_id/archive
        /vaults/:vault_id/credentials/:credential_id/mcp_oauth_validate
        /vector_stores/:vector_store_id
        /vector_stores/:vector_store_id/file_batches/:batch_id/cancel
        /vector_stores/:vector_store_id/files/:file_id
    """,
}
"""The templates below `/v1` that are posted to, by how they are billed. Those of one name are
billed alike whichever vendor serves them."""

_BILLING_BY_POST: Final[dict[str, Billing]] = {
    template: billing for billing, templates in POSTS.items() for template in templates.split()
} | {"/audios/translations": Billing.ANSWER}


@lru_cache(maxsize=_TEMPLATES_KEPT_MAX)
def billing_of(method: str, path_template: str) -> Billing:
    """How a request is billed, given its method and its template as events name it.

    What reads or deletes is free. What no table knows is billed by its answer: nobody said that it
    is free.
    """
    if method in _READING_METHODS:
        return Billing.FREE
    surface = _SURFACE.match(path_template)
    template = path_template if surface is None else path_template[surface.end() :]
    return _BILLING_BY_POST.get(template, Billing.ANSWER)
