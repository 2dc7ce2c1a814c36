"""A small provider on loopback: speaks OpenAI's and Anthropic's dialects, answers what it is asked.

Enters: HTTP requests, with `x-demo-*` headers that say how to answer. Leaves: answers with usage,
and the provider's own record of them. Never: a model, a real credential, another machine.
"""
