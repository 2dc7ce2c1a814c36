"""The paths of each vendor's API, below `/v1`, named as `allowedPaths` names them.

A method with `!` starts work whose price cannot be known from its answer.
"""

from typing import Final

OPENAI: Final = """
/assistants GET POST
/assistants/:assistant_id GET POST DELETE
/assistants/:assistant_id/files GET POST
/assistants/:assistant_id/files/:file_id GET DELETE
/audio/speech POST
/audio/transcriptions POST
/audio/translations POST
/audio/voice_consents GET POST
/audio/voice_consents/:consent_id GET POST DELETE
/audio/voices POST
/batches GET POST!
/batches/:batch_id GET
/batches/:batch_id/cancel POST
/chat/completions GET POST
/chat/completions/:completion_id GET POST DELETE
/chat/completions/:completion_id/messages GET
/chatkit/sessions POST!
/chatkit/sessions/:session_id/cancel POST
/chatkit/threads GET
/chatkit/threads/:thread_id GET DELETE
/chatkit/threads/:thread_id/items GET
/completions POST
/containers GET POST!
/containers/:container_id GET DELETE
/containers/:container_id/files GET POST
/containers/:container_id/files/:file_id GET DELETE
/containers/:container_id/files/:file_id/content GET
/content_provenance_checks POST
/conversations POST
/conversations/:conversation_id GET POST DELETE
/conversations/:conversation_id/items GET POST
/conversations/:conversation_id/items/:item_id GET DELETE
/embeddings POST
/evals GET POST!
/evals/:eval_id GET POST DELETE
/evals/:eval_id/runs GET POST!
/evals/:eval_id/runs/:run_id GET POST DELETE
/evals/:eval_id/runs/:run_id/output_items GET
/evals/:eval_id/runs/:run_id/output_items/:output_item_id GET
/files GET POST
/files/:file_id GET DELETE
/files/:file_id/content GET
/fine_tuning/alpha/graders/run POST!
/fine_tuning/alpha/graders/validate POST
/fine_tuning/checkpoints/:fine_tuned_model_checkpoint/permissions GET POST
/fine_tuning/checkpoints/:fine_tuned_model_checkpoint/permissions/:permission_id DELETE
/fine_tuning/jobs GET POST!
/fine_tuning/jobs/:fine_tuning_job_id GET
/fine_tuning/jobs/:fine_tuning_job_id/cancel POST
/fine_tuning/jobs/:fine_tuning_job_id/checkpoints GET
/fine_tuning/jobs/:fine_tuning_job_id/events GET
/fine_tuning/jobs/:fine_tuning_job_id/pause POST
/fine_tuning/jobs/:fine_tuning_job_id/resume POST!
/images/edits POST
/images/generations POST
/images/variations POST
/models GET
/models/:model GET DELETE
/moderations POST
/realtime/calls POST!
/realtime/calls/:call_id/accept POST!
/realtime/calls/:call_id/hangup POST
/realtime/calls/:call_id/refer POST
/realtime/calls/:call_id/reject POST
/realtime/client_secrets POST!
/realtime/sessions POST!
/realtime/transcription_sessions POST!
/realtime/translations/client_secrets POST!
/responses POST
/responses/:response_id GET DELETE
/responses/:response_id/cancel POST
/responses/:response_id/input_items GET
/responses/compact POST
/responses/input_tokens POST
/skills GET POST
/skills/:skill_id GET POST DELETE
/skills/:skill_id/content GET
/skills/:skill_id/versions GET POST
/skills/:skill_id/versions/:version GET DELETE
/skills/:skill_id/versions/:version/content GET
/threads POST
/threads/:thread_id GET POST DELETE
/threads/:thread_id/messages GET POST
/threads/:thread_id/messages/:message_id GET POST DELETE
/threads/:thread_id/messages/:message_id/files GET
/threads/:thread_id/messages/:message_id/files/:file_id GET
/threads/:thread_id/runs GET POST!
/threads/:thread_id/runs/:run_id GET POST
/threads/:thread_id/runs/:run_id/cancel POST
/threads/:thread_id/runs/:run_id/steps GET
/threads/:thread_id/runs/:run_id/steps/:step_id GET
/threads/:thread_id/runs/:run_id/submit_tool_outputs POST!
/threads/runs POST!
/uploads POST
/uploads/:upload_id/cancel POST
/uploads/:upload_id/complete POST
/uploads/:upload_id/parts POST
/vector_stores GET POST!
/vector_stores/:vector_store_id GET POST DELETE
/vector_stores/:vector_store_id/file_batches POST!
/vector_stores/:vector_store_id/file_batches/:batch_id GET
/vector_stores/:vector_store_id/file_batches/:batch_id/cancel POST
/vector_stores/:vector_store_id/file_batches/:batch_id/files GET
/vector_stores/:vector_store_id/files GET POST!
/vector_stores/:vector_store_id/files/:file_id GET POST DELETE
/vector_stores/:vector_store_id/files/:file_id/content GET
/vector_stores/:vector_store_id/search POST!
/videos GET POST!
/videos/:video_id GET DELETE
/videos/:video_id/content GET
/videos/:video_id/remix POST!
/videos/characters POST!
/videos/characters/:character_id GET
/videos/edits POST!
/videos/extensions POST!
"""

ANTHROPIC: Final = """
/agents GET POST
/agents/:agent_id GET POST
/agents/:agent_id/archive POST
/agents/:agent_id/versions GET
/chat/completions POST
/complete POST
/environments GET POST
/environments/:environment_id GET POST DELETE
/environments/:environment_id/archive POST
/files GET POST
/files/:file_id GET DELETE
/files/:file_id/content GET
/memory_stores GET POST
/memory_stores/:memory_store_id GET POST DELETE
/memory_stores/:memory_store_id/archive POST
/memory_stores/:memory_store_id/memories GET POST
/memory_stores/:memory_store_id/memories/:memory_id GET POST DELETE
/memory_stores/:memory_store_id/memory_versions GET
/memory_stores/:memory_store_id/memory_versions/:memory_version_id GET
/memory_stores/:memory_store_id/memory_versions/:memory_version_id/redact POST
/messages POST
/messages/batches GET POST!
/messages/batches/:message_batch_id GET DELETE
/messages/batches/:message_batch_id/cancel POST
/messages/batches/:message_batch_id/results GET
/messages/count_tokens POST
/models GET
/models/:model_id GET
/sessions GET POST!
/sessions/:session_id GET POST DELETE
/sessions/:session_id/archive POST
/sessions/:session_id/events GET POST!
/sessions/:session_id/events/stream GET
/sessions/:session_id/resources GET POST
/sessions/:session_id/resources/:resource_id GET POST DELETE
/sessions/:session_id/threads GET
/sessions/:session_id/threads/:thread_id GET
/sessions/:session_id/threads/:thread_id/archive POST
/sessions/:session_id/threads/:thread_id/events GET
/sessions/:session_id/threads/:thread_id/stream GET
/skills GET POST
/skills/:skill_id GET DELETE
/skills/:skill_id/versions GET POST
/skills/:skill_id/versions/:version GET DELETE
/user_profiles GET POST
/user_profiles/:user_profile_id GET POST
/user_profiles/:user_profile_id/enrollment_url POST
/vaults GET POST
/vaults/:vault_id GET POST DELETE
/vaults/:vault_id/archive POST
/vaults/:vault_id/credentials GET POST
/vaults/:vault_id/credentials/:credential_id GET POST DELETE
/vaults/:vault_id/credentials/:credential_id/archive POST
/vaults/:vault_id/credentials/:credential_id/mcp_oauth_validate POST
"""
