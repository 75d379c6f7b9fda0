"""The OpenAPI document of the routes, made of their records, and a page that shows it without anything from elsewhere.

Not here: the routes (shelf.py). Door: openapi_document, DOCS_PAGE.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from quire.server.schema.usage import Fault
from quire.server.shelf import Endpoint
from quire.version import __version__

_REF = "#/components/schemas/{name}"
_CONVERTOR = re.compile(r"\{(\w+):\w+\}")


def openapi_document(endpoints: Sequence[Endpoint]) -> dict[str, object]:
    """OpenAPI 3.1 of what this configuration serves."""
    kinds = {kind for one in endpoints for kind in (one.takes, one.gives, one.streams) if kind is not None} | {Fault}
    ordered = sorted(kinds, key=lambda kind: kind.__name__)
    refs, components = msgspec.json.schema_components(ordered, schema_hook=_anything, ref_template=_REF)
    ref_of = dict(zip(ordered, refs, strict=True))
    paths: dict[str, dict[str, object]] = {}
    for one in endpoints:
        path = _CONVERTOR.sub(r"{\1}", one.path)
        for method in one.methods:
            paths.setdefault(path, {})[method.lower()] = _operation(one, path, ref_of)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Quire", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _anything(kind: type) -> dict[str, object]:
    """The schema of a field whose objects are checked by hand."""
    if kind is object:
        return {"title": "anything"}
    raise NotImplementedError


def _operation(one: Endpoint, path: str, ref_of: dict[type, dict[str, object]]) -> dict[str, object]:
    content: dict[str, object] = {}
    if one.gives is not None:
        content["application/json"] = {"schema": ref_of[one.gives]}
    if one.streams is not None:
        content["text/event-stream"] = {"schema": ref_of[one.streams]}
    operation: dict[str, object] = {
        "summary": one.summary,
        "responses": {
            "200": {"description": "Success.", **({"content": content} if content else {})},
            "default": {"description": "Failure.", "content": {"application/json": {"schema": ref_of[Fault]}}},
        },
    }
    if not one.is_open:
        operation["security"] = [{}, {"key": []}]
    if one.takes is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": ref_of[one.takes]}}}
    parameters = re.findall(r"\{(\w+)\}", path)
    if parameters:
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in parameters
        ]
    return operation


DOCS_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Quire API</title>
<style>
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 small { font-weight: normal; opacity: .6; font-size: 1rem; }
details { border: 1px solid #8884; border-radius: 6px; margin: .5rem 0; padding: .5rem .8rem; }
summary { cursor: pointer; }
code, pre { font: 14px/1.45 ui-monospace, monospace; }
.method { display: inline-block; min-width: 3.5rem; font-weight: bold; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; vertical-align: top; padding: .15rem .8rem .15rem 0; border-bottom: 1px solid #8882; }
</style>
</head>
<body>
<h1>Quire API <small id="version"></small></h1>
<p>The same as a document for programs: <a href="openapi.json">openapi.json</a>.</p>
<div id="routes"></div>
<h2>Records</h2>
<div id="records"></div>
<script>
"use strict";
const el = (name, text, parent) => {
  const made = document.createElement(name);
  if (text) made.textContent = text;
  if (parent) parent.append(made);
  return made;
};
const named = (schema) => {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.map(named).join(" | ");
  if (schema.type === "array") return "[" + named(schema.items) + "]";
  if (schema.type === "object" && schema.additionalProperties) return "{" + named(schema.additionalProperties) + "}";
  return schema.type || "any";
};
const fields = (schema, parent) => {
  const table = el("table", "", parent);
  for (const [name, field] of Object.entries(schema.properties || {})) {
    const row = el("tr", "", table);
    el("code", name, el("td", "", row));
    el("td", named(field), row);
    el("td", (schema.required || []).includes(name) ? "required" : "", row);
  }
};
const reference = (content) => Object.entries(content || {}).map(([kind, body]) => kind + ": " + named(body.schema));
fetch("openapi.json").then((answer) => answer.json()).then((doc) => {
  document.getElementById("version").textContent = doc.info.version;
  const routes = document.getElementById("routes");
  for (const [path, methods] of Object.entries(doc.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const box = el("details", "", routes);
      const head = el("summary", "", box);
      const verb = el("span", method.toUpperCase(), head);
      verb.className = "method";
      el("code", path, head);
      el("p", operation.summary, box);
      if (operation.requestBody) el("p", "Takes " + reference(operation.requestBody.content).join(", "), box);
      for (const line of reference(operation.responses["200"].content)) el("p", "Gives " + line, box);
    }
  }
  const records = document.getElementById("records");
  for (const [name, schema] of Object.entries(doc.components.schemas)) {
    const box = el("details", "", records);
    el("code", name, el("summary", "", box));
    if (schema.description) el("p", schema.description, box);
    fields(schema, box);
  }
});
</script>
</body>
</html>
"""
