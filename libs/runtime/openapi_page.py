"""Shows an OpenAPI document as one HTML page: no script, no outside resource."""

import base64
import json
from collections.abc import Iterator
from hashlib import sha256
from html import escape
from typing import Any, Final

_STYLE: Final = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --link: #1a6fb5; }
@media (prefers-color-scheme: dark) { :root { --link: #7ab8f0; } }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0; }
main { max-width: 60rem; margin: 0 auto; padding: 1rem; }
a { color: var(--link); }
nav ul { columns: 18rem; padding: 0; list-style: none; font-size: .9rem; }
code, pre { font: .875rem/1.45 ui-monospace, monospace; }
pre { background: var(--soft); border: 1px solid var(--line); border-radius: 4px; padding: .6rem;
  overflow-x: auto; }
details { border: 1px solid var(--line); border-radius: 4px; margin: .5rem 0; padding: 0 .8rem; }
summary { cursor: pointer; padding: .5rem 0; }
summary code { font-weight: 600; }
summary span { opacity: .8; margin-left: .6rem; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; margin: .5rem 0; }
th, td { text-align: left; vertical-align: top; border-bottom: 1px solid var(--line);
  padding: .3rem .6rem .3rem 0; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
h4 { margin: 1rem 0 .2rem; }
"""

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; style-src"
    f" 'sha256-{base64.b64encode(sha256(_STYLE.encode()).digest()).decode()}'"
)


def render_page(document: dict[str, Any], base_url: str) -> str:
    """The page. `base_url` is what its curl lines call."""
    info = document["info"]
    schemas = document["components"]["schemas"]
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(info['title'])}</title><style>{_STYLE}</style></head><body><main>"
        f"<h1>{escape(info['title'])}</h1>{_prose(info['description'])}"
        '<p>For programs: <a href="/openapi.json">/openapi.json</a> (OpenAPI 3.1).</p>',
        "<nav><ul>",
        *(
            f'<li><a href="#{_anchor(tag["name"])}">{escape(tag["name"])}</a></li>'
            for tag in document["tags"]
        ),
        "</ul></nav>",
    ]
    for tag in document["tags"]:
        parts.append(
            f'<h2 id="{_anchor(tag["name"])}">{escape(tag["name"])}</h2>'
            f"{_prose(tag['description'])}"
        )
        for path, method, operation in _operations(document, tag["name"]):
            parts.append(_operation(path, method, operation, base_url))
    parts.append('<h2 id="schemas">schemas</h2>')
    for name, schema in sorted(schemas.items()):
        parts.append(f'<h3 id="schema-{escape(name)}">{escape(name)}</h3>{_schema_table(schema)}')
    parts.append("</main></body></html>")
    return "\n".join(parts)


def _operations(document: dict[str, Any], tag: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if tag in operation["tags"]:
                yield path, method.upper(), operation


def _operation(path: str, method: str, operation: dict[str, Any], base_url: str) -> str:
    parts = [
        f'<details id="{escape(operation["operationId"])}"><summary>'
        f"<code>{method} {escape(path)}</code><span>{escape(operation['summary'])}</span>"
        f"</summary>{_prose(operation.get('description', ''))}"
    ]
    parameters = operation.get("parameters")
    if parameters:
        parts.append("<h4>Parameters</h4><table>")
        parts += [
            f"<tr><td><code>{escape(parameter['name'])}</code></td>"
            f"<td>{parameter['in']}{', required' if parameter['required'] else ''}</td>"
            f"<td>{_type(parameter['schema'])}</td>"
            f"<td>{escape(parameter.get('description', ''))}</td></tr>"
            for parameter in parameters
        ]
        parts.append("</table>")
    body = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if body is not None:
        parts.append(f"<h4>Body</h4><p>{_type(body['schema'])}</p>")
    parts.append(
        f"<h4>Call</h4><pre>{escape(_curl(path, method, operation, body, base_url))}</pre>"
    )
    parts.append("<h4>Answers</h4><table>")
    for status, response in operation["responses"].items():
        content = response.get("content", {})
        shape = next((_type(media["schema"]) for media in content.values()), "")
        parts.append(
            f"<tr><td>{status}</td><td>{_inline(response['description'])}</td><td>{shape}</td></tr>"
        )
    parts.append("</table>")
    for response in operation["responses"].values():
        for media in response.get("content", {}).values():
            if "example" in media:
                parts.append(f"<pre>{escape(_json(media['example']))}</pre>")
    parts.append("</details>")
    return "\n".join(parts)


def _curl(path: str, method: str, operation: dict[str, Any], body: Any, base_url: str) -> str:
    query = "&".join(
        f"{parameter['name']}={parameter['example']}"
        for parameter in operation.get("parameters", ())
        if parameter["in"] == "query" and "example" in parameter
    )
    url = f"{base_url}{path}{'?' + query if query else ''}"
    lines = [f"curl -X {method} '{url}'"]
    if operation.get("security") != []:
        lines.append('-H "X-API-KEY: $ADMIN_PASS"')
    if body is not None and "example" in body:
        text = json.dumps(body["example"], ensure_ascii=False).replace("'", "'\\''")
        lines += ["-H 'Content-Type: application/json'", f"-d '{text}'"]
    return " \\\n  ".join(lines)


def _schema_table(schema: dict[str, Any]) -> str:
    description = _prose(schema.get("description", ""))
    if "properties" not in schema:
        return f"{description}<p>{_type(schema)}</p>"
    required = schema.get("required", ())
    rows = []
    for name, member in schema["properties"].items():
        notes = ["always there" if name in required else "optional"]
        if "default" in member and member["default"] not in (None, "", 0, [], False):
            notes.append(f"default {escape(_json(member['default']))}")
        if member.get("description"):
            notes.append(escape(member["description"]))
        rows.append(
            f"<tr><td><code>{escape(name)}</code></td><td>{_type(member)}</td>"
            f"<td>{', '.join(notes)}</td></tr>"
        )
    return f"{description}<table>{''.join(rows)}</table>"


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = escape(schema["$ref"].rsplit("/", 1)[-1])
        return f'<a href="#schema-{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(_type(part) for part in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(f"<code>{escape(_json(value))}</code>" for value in schema["enum"])
    kind = schema.get("type", "any")
    if kind == "array" and isinstance(schema.get("items"), dict):
        return f"list of {_type(schema['items'])}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_type(schema['additionalProperties'])}"
    return escape(" or ".join(kind) if isinstance(kind, list) else kind)


def _prose(text: str) -> str:
    """Paragraphs, with `code` as code."""
    if not text:
        return ""
    return "".join(f"<p>{_inline(paragraph)}</p>" for paragraph in text.split("\n\n"))


def _inline(text: str) -> str:
    pieces = escape(text).split("`")
    return "".join(f"<code>{one}</code>" if index % 2 else one for index, one in enumerate(pieces))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


def _anchor(name: str) -> str:
    return "tag-" + escape(name.replace(" ", "-"))
