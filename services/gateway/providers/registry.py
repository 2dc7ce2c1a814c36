"""Every provider, by name. To add one: a file beside this, and a line here."""

from typing import Final

from gateway.providers.openai import OPENAI
from gateway.values import Provider

PROVIDERS: Final[dict[str, Provider]] = {provider.name: provider for provider in (OPENAI,)}
