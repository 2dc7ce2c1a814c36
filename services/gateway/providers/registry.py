"""Every provider, by name. To add one that speaks OpenAI's dialect: a line here."""

from typing import Final

from gateway.providers.auth import api_key, bearer, bearer_if_any, x_api_key
from gateway.values import Provider

_OPENAI: Final = {"openai": bearer}
_OWN: Final = {"openai": bearer_if_any}
_KEY: Final = ("apikey",)
_URL: Final = ("url",)
_GPT: Final = (
    "gpt-",
    "chatgpt-",
    "o1",
    "o3",
    "o4",
    "text-embedding-",
    "dall-e-",
    "whisper-",
    "tts-",
)
_MISTRAL: Final = ("mistral-", "ministral-", "magistral-", "codestral-", "devstral-", "pixtral-")

# Name, how it is shown the key by dialect, what a setting must hold, its own base.
_ROWS: Final = (
    Provider("openai", _OPENAI, _KEY, "https://api.openai.com", model_prefixes=_GPT),
    Provider(
        "anthropic",
        {"anthropic": x_api_key, "openai": bearer},
        _KEY,
        "https://api.anthropic.com",
        model_prefixes=("claude-",),
    ),
    Provider(
        "azure",
        {"openai": api_key},
        ("apikey", "resourceName"),
        "https://{resourceName}.openai.azure.com",
        v1=b"/openai/v1",
    ),
    Provider("vllm", _OWN, _URL, ""),
    Provider("deepinfra", _OPENAI, _KEY, "https://api.deepinfra.com/v1/openai", v1=b""),
    Provider(
        "gemini",
        _OPENAI,
        _KEY,
        "https://generativelanguage.googleapis.com/v1beta/openai",
        v1=b"",
        model_prefixes=("gemini-", "gemma-"),
    ),
    # Its streams end with the usage unasked, and it refuses members that it does not know.
    Provider(
        "mistral",
        _OPENAI,
        _KEY,
        "https://api.mistral.ai",
        takes_stream_options=False,
        model_prefixes=_MISTRAL,
    ),
    Provider("groq", _OPENAI, _KEY, "https://api.groq.com/openai"),
    # Its streams end with the usage unasked.
    Provider("openrouter", _OPENAI, _KEY, "https://openrouter.ai/api", takes_stream_options=False),
    Provider("ollama", _OWN, (), "http://localhost:11434"),
    Provider("deepseek", _OPENAI, _KEY, "https://api.deepseek.com", model_prefixes=("deepseek-",)),
    # Kept for who moves here with its settings. It wants each request signed, and answers streams
    # in a framing of its own.
    Provider("bedrock", {}, ("awsAccessKeyId", "awsSecretAccessKey", "awsRegion"), ""),
)

PROVIDERS: Final[dict[str, Provider]] = {provider.name: provider for provider in _ROWS}
