"""The document as a page for people: HTML that is made once, at start, and reads without scripts.

Viewers that others keep (Swagger UI, ReDoc, Scalar) draw the page in the browser: without
JavaScript there is nothing, and their styles stand inline, which the page's policy would have to
allow. So the page is a template over the same document; a script only filters the list.
"""

import hashlib
import json
import shlex
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any, Final, TypeAlias

from attrs import field, frozen
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from dpp.http.openapi.refusals import MEDIA

Json: TypeAlias = dict[str, Any]

ROOT: Final = "/docs"
URL: Final = "http://127.0.0.1:8080"  # where a node listens if nothing else is said
_ASSETS: Final = files("dpp.http.openapi") / "assets"


@frozen
class Asset:
    """Bytes to serve; `tag` names these very bytes."""

    media_type: str
    body: bytes = field(repr=False)

    @property
    def tag(self) -> str:
        """Return its entity tag, without quotes."""
        return hashlib.sha256(self.body).hexdigest()[:32]


@frozen(kw_only=True)
class Shown:
    """An operation, with every reference followed."""

    method: str
    path: str
    told: Json
    parameters: list[Json]
    answers: list[tuple[str, Json]]  # by status, those that are no problem alone
    problems: list[str]  # names of types
    curl: str

    @property
    def scopes(self) -> list[str]:
        """Return what a key must be allowed."""
        return [scope for one in self.told.get("security", ()) for scope in one["key"]]


def assets(document: Json) -> Mapping[str, Asset]:
    """Return what is served, by its path."""
    return {
        ROOT: Asset("text/html; charset=utf-8", render(document).encode()),
        f"{ROOT}/page.css": Asset("text/css; charset=utf-8", _read("page.css")),
        f"{ROOT}/page.js": Asset("text/javascript; charset=utf-8", _read("page.js")),
    }


def render(document: Json) -> str:
    """Return the page; whatever the document says is text, never markup."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["pretty"] = pretty
    environment.filters["prose"] = prose
    environment.filters["type"] = type_text
    shown = list(operations(document))
    template = environment.from_string(_read("page.html").decode())
    return template.render(
        document=document,
        groups={
            tag["name"]: [one for one in shown if tag["name"] in one.told["tags"]]
            for tag in document["tags"]
        },
        events={event: methods["post"] for event, methods in document["webhooks"].items()},
        problems=problems(document),
        schemas={
            name: schema
            for name, schema in sorted(document["components"]["schemas"].items())
            if "properties" in schema
        },
    )


def operations(document: Json) -> Iterator[Shown]:
    """Yield every operation as the page shows it."""
    for path, methods in document["paths"].items():
        for method, told in methods.items():
            responses = {status: follow(document, one) for status, one in told["responses"].items()}
            parameters = [follow(document, one) for one in told["parameters"]]
            yield Shown(
                method=method.upper(),
                path=path,
                told=told,
                parameters=parameters,
                answers=[
                    (status, _headed(document, one))
                    for status, one in responses.items()
                    if set(one.get("content", ())) != {MEDIA}
                ],
                problems=[
                    name
                    for one in responses.values()
                    for name in one.get("content", {}).get(MEDIA, {}).get("examples", ())
                ],
                curl=curl(method.upper(), path, told, parameters),
            )


def problems(document: Json) -> Mapping[str, Json]:
    """Return each problem type that an operation may answer: its schema and an example."""
    schemas = document["components"]["schemas"]
    found: dict[str, Json] = {}
    for methods in document["paths"].values():
        for told in methods.values():
            for response in told["responses"].values():
                content = follow(document, response).get("content", {}).get(MEDIA)
                for name, example in (content or {"examples": {}})["examples"].items():
                    value = example["value"]
                    found[name] = {"value": value, "meaning": _meaning(schemas, value)}
    return dict(sorted(found.items(), key=lambda item: (item[1]["value"]["status"], item[0])))


def curl(method: str, path: str, told: Json, parameters: list[Json]) -> str:
    """Return a line for the shell that asks for it, with the examples of what must be said."""
    needed = [one for one in parameters if one["required"]]
    for one in needed:
        path = path.replace(f"{{{one['name']}}}", str(one["example"]))
    words = ["curl"]
    if method not in ("GET", "POST") or (method == "POST" and "requestBody" not in told):
        words += ["-X", method]
    words.append(shlex.quote(URL + path))
    if "security" in told:
        words += ["-H", '"Authorization: Bearer $DPP_API_KEY"']
    for one in needed:
        if one["in"] == "header":
            words += ["-H", shlex.quote(f"{one['name']}: {one['example']}")]
    if "requestBody" in told:
        body = told["requestBody"]["content"]["application/json"]
        example = next(iter(body["examples"].values()))["value"]
        words += ["-H", "'Content-Type: application/json'"]
        words += ["-d", shlex.quote(json.dumps(example))]
    return " ".join(words)


def follow(document: Json, told: Json) -> Json:
    """Return what a reference stands for; what is none stays."""
    if "$ref" not in told:
        return told
    found: Any = document
    for part in told["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return dict(found)


def type_text(schema: Json) -> str:
    """Say in a word or two what a schema allows."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    for alternatives in (schema.get("anyOf"), schema.get("oneOf")):
        if alternatives:
            return " or ".join(type_text(one) for one in alternatives)
    if "allOf" in schema:
        return type_text(schema["allOf"][0])
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return " | ".join(json.dumps(one) for one in schema["enum"])
    kind = schema.get("type", "any JSON")
    if kind == "array":
        return f"array of {type_text(schema.get('items', {}))}"
    text = " or ".join(kind) if isinstance(kind, list) else str(kind)
    bounds = [
        f"{word} {schema[name]}"
        for word, name in (("from", "minimum"), ("to", "maximum"), ("at most", "maxLength"))
        if name in schema
    ]
    return ", ".join([text, *([schema["format"]] if "format" in schema else []), *bounds])


def prose(text: str) -> Markup:
    """Return a sentence of the document; what stands between backticks is code."""
    code = Markup("<code>{}</code>")
    parts = text.split("`")
    return Markup().join(code.format(one) if n % 2 else escape(one) for n, one in enumerate(parts))


def pretty(value: object) -> str:
    """Return an example as it is to be read."""
    if isinstance(value, str):
        return value
    return json.dumps(value, indent=2, ensure_ascii=False)


def _headed(document: Json, response: Json) -> Json:
    """Return an answer whose headers are there, not referred to."""
    headers = {name: follow(document, one) for name, one in response.get("headers", {}).items()}
    return {**response, "headers": headers}


def _meaning(schemas: Json, value: Json) -> str:
    """Return what a problem's schema says of it."""
    for schema in schemas.values():
        for part in schema.get("allOf", ()):
            if part.get("properties", {}).get("type") == {"const": value["type"]}:
                return str(schema["description"])
    raise LookupError(value["type"])


def _read(name: str) -> bytes:
    return (_ASSETS / name).read_bytes()
