"""The page /docs: an OpenAPI document as plain HTML, with no script and nothing loaded."""

import json
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from html import escape
from typing import Any

Document = Mapping[str, Any]

_METHODS = ("get", "put", "post", "delete", "patch", "head", "options")
_CODE = re.compile(r"`([^`]+)`")

_STYLE = """
:root { --ink: #1b2733; --soft: #566575; --line: #d9e0e7; --paper: #fff; --shade: #f4f7f9;
  --link: #0b5fad; --get: #0b6e4f; --post: #0b5fad; --put: #8a5a00; --delete: #a8261c; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4eaf0; --soft: #9fb0c0; --line: #2d3a47; --paper: #12181f; --shade: #1a222b;
    --link: #7db8f0; --get: #5fcf9f; --post: #7db8f0; --put: #e5b567; --delete: #f0877d; } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 62rem; padding: 2rem 1.25rem 6rem; background: var(--paper);
  color: var(--ink); font: 16px/1.55 system-ui, sans-serif }
h1 { margin: 0 0 .25rem; font-size: 1.7rem; line-height: 1.2 }
h2 { margin: 3rem 0 .25rem; font-size: 1.25rem } h3 { margin: 1.25rem 0 .25rem; font-size: 1rem }
p { margin: .4rem 0; max-width: 46rem } a { color: var(--link) } .soft { color: var(--soft) }
nav { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; margin: 1rem 0 }
code, pre { font: .875rem/1.5 ui-monospace, monospace }
pre { overflow-x: auto; padding: .75rem 1rem; border-radius: 6px; background: var(--shade) }
details { border-top: 1px solid var(--line) }
details:last-of-type { border-bottom: 1px solid var(--line) }
summary { display: grid; grid-template-columns: 4.5rem minmax(12rem, 24rem) 1fr; gap: .25rem 1rem;
  align-items: baseline; padding: .6rem .25rem; cursor: pointer }
summary:hover, summary:focus-visible { background: var(--shade) }
.method { font: 600 .8rem ui-monospace, monospace; text-transform: uppercase }
.get { color: var(--get) } .post { color: var(--post) } .put { color: var(--put) }
.delete { color: var(--delete) } .path { overflow-wrap: anywhere }
.inside { padding: 0 .25rem 1.25rem 5.75rem }
.table { overflow-x: auto } table { border-collapse: collapse; width: 100%; font-size: .925rem }
td { padding: .35rem 1rem .35rem 0; border-top: 1px solid var(--line); vertical-align: top }
td:first-child { white-space: nowrap; width: 12rem }
@media (max-width: 40rem) { summary { grid-template-columns: 4rem 1fr }
  summary .said { grid-column: 1 / -1 } .inside { padding-left: .25rem } }
"""


_STYLE_HASH = b64encode(sha256(_STYLE.encode()).digest()).decode()
POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; frame-ancestors 'none'; "
    "base-uri 'none'; form-action 'none'"
)
"""What the page may load: its own style, and nothing else."""


def render(document: Document) -> str:
    """The page; `document` is OpenAPI 3.1 whose references are its own components."""
    info = document["info"]
    sections = [_section(document, tag) for tag in document["tags"]]
    links = "".join(
        f'<a href="#{_anchor(tag)}">{escape(tag["name"])}</a>' for tag in document["tags"]
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(info['title'])}</title><style>{_STYLE}</style></head><body>"
        f"<h1>{escape(info['title'])}</h1>"
        f'<p class="soft">Version {escape(info["version"])}</p><p>{_text(info)}</p>'
        f'<nav>{links}<a href="#schemas">Schemas</a><a href="openapi.json">openapi.json</a></nav>'
        f"<main>{''.join(sections)}{_schemas(document)}</main></body></html>"
    )


def _section(document: Document, tag: Document) -> str:
    operations = "".join(
        _operation(document, path, method, item)
        for path, item in document["paths"].items()
        for method in _METHODS
        if method in item and tag["name"] in item[method].get("tags", ())
    )
    return (
        f'<section id="{_anchor(tag)}"><h2>{escape(tag["name"])}</h2>'
        f"<p>{_text(tag)}{_more(tag)}</p>{operations}</section>"
    )


def _operation(document: Document, path: str, method: str, item: Document) -> str:
    operation = item[method]
    parameters = [*item.get("parameters", ()), *operation.get("parameters", ())]
    parts = [f"<p>{_text(operation)}{_more(operation)}</p>"]
    if parameters:
        rows = (_parameter(_resolved(document, parameter)) for parameter in parameters)
        parts.append(f"<h3>Parameters</h3>{_table(rows)}")
    if "requestBody" in operation:
        parts.append(f"<h3>Body</h3>{_content(operation['requestBody'])}")
    responses = (
        _response(status, _resolved(document, response))
        for status, response in operation["responses"].items()
    )
    parts.append(f"<h3>Answers</h3>{_table(responses)}")
    return (
        f'<details id="{escape(operation["operationId"])}"><summary>'
        f'<span class="method {method}">{method}</span><code class="path">{escape(path)}</code>'
        f'<span class="said">{escape(operation["summary"])}</span></summary>'
        f'<div class="inside">{"".join(parts)}</div></details>'
    )


def _parameter(parameter: Document) -> tuple[str, str]:
    said = [_text(parameter)]
    values = parameter["schema"].get("enum")
    if values:
        said.append(" · ".join(f"<code>{escape(str(value))}</code>" for value in values))
    if "example" in parameter:
        shown = escape(_example(parameter["example"]))
        said.append(f'<span class="soft">such as <code>{shown}</code></span>')
    place = parameter["in"] + (", required" if parameter.get("required") else "")
    name = f'<code>{escape(parameter["name"])}</code><br><span class="soft">{place}</span>'
    return name, "<br>".join(part for part in said if part)


def _example(value: object) -> str:
    """An example as it stands in a query string, but for the percent signs."""
    if isinstance(value, Mapping):
        return "&".join(f"{name}={part}" for name, part in value.items())
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _response(status: str, response: Document) -> tuple[str, str]:
    headers = ", ".join(f"<code>{escape(name)}</code>" for name in response.get("headers", ()))
    said = _text(response) + (f' <span class="soft">with {headers}</span>' if headers else "")
    return f"<code>{escape(status)}</code>", said + _content(response)


def _content(holder: Document) -> str:
    """The media types of a body, what they hold, and their examples."""
    parts = []
    for media_type, content in holder.get("content", {}).items():
        schema = content.get("schema", {})
        name = schema.get("$ref", "").rpartition("/")[2]
        link = f': <a href="#schema-{escape(name)}">{escape(name)}</a>' if name else ""
        said = _text(schema)
        parts.append(
            f'<div class="soft"><code>{escape(media_type)}</code>{link} {said}</div>'
            + "".join(_pre(example["value"]) for example in content.get("examples", {}).values())
        )
    return "".join(parts)


def _schemas(document: Document) -> str:
    schemas = "".join(
        f'<details id="schema-{escape(name)}"><summary><span></span><code>{escape(name)}</code>'
        f'<span class="said">{_text(schema)}</span></summary>'
        f'<div class="inside">{_pre(schema)}</div></details>'
        for name, schema in document["components"]["schemas"].items()
    )
    return f'<section id="schemas"><h2>Schemas</h2>{schemas}</section>'


def _table(rows: Iterable[tuple[str, str]]) -> str:
    cells: Iterator[str] = (f"<tr><td>{name}</td><td>{said}</td></tr>" for name, said in rows)
    return f'<div class="table"><table>{"".join(cells)}</table></div>'


def _resolved(document: Document, part: Document) -> Document:
    if "$ref" not in part:
        return part
    found: Any = document
    for step in part["$ref"].removeprefix("#/").split("/"):
        found = found[step]
    resolved: Document = found
    return resolved


def _text(part: Document) -> str:
    return _CODE.sub(r"<code>\1</code>", escape(part.get("description", "")))


def _more(part: Document) -> str:
    if "externalDocs" not in part:
        return ""
    url = escape(part["externalDocs"]["url"])
    return f' <a href="{url}" rel="noreferrer">Specification</a>'


def _pre(value: object) -> str:
    return f"<pre>{escape(json.dumps(value, indent=2, ensure_ascii=False))}</pre>"


def _anchor(tag: Document) -> str:
    return f"tag-{escape(tag['name'].lower())}"
