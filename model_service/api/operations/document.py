"""The OpenAPI document: flask-openapi3's output for the routes, completed with all rules of the service.

The library's model of a schema lacks keywords, so request bodies are described by their classes.
"""

import re
from collections.abc import Iterable, Iterator
from threading import Lock
from typing import Any

from flask_openapi3 import APIBlueprint, OpenAPI
from pydantic import BaseModel

from model_service.api.http.context import context
from model_service.api.http.policy import Caller, policy_of
from model_service.api.http.urls import absolute
from model_service.api.operations.reference import explain, register_page
from model_service.api.schemas.common import Body, without_null

_PARAMETER = re.compile(r"<(?:[a-z_]+:)?([a-z_]+)>")
JSON_VALUE = "JSONValue"
_REFERENCE = "#/components/schemas/{model}"
_ERROR = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}}
# The library documents its 422 as a list of errors; the service returns one error, as for other statuses.
_ANY_ROUTE = {
    "422": {"description": "A field is invalid: details.fields lists each one", **_ERROR},
    "4XX": {"description": "The request was rejected: error.code has the reason", **_ERROR},
    "5XX": {"description": "The service is temporarily unavailable", **_ERROR},
}
# The rules of ``request_text`` and ``request_body`` for every route. Text in a body is stripped before its
# length is checked.
_TEXT = r"^[^\u0000]*$"
_NOT_BLANK = r"^[^\u0000]*[^\s\u0000][^\u0000]*$"
_KEY = r"^(?!\$)[^\u0000]*$"
_LEAST, _MOST = -(2**63), 2**63 - 1
_FREE_OBJECT: dict[str, Any] = {
    "propertyNames": {"pattern": _KEY},
    "additionalProperties": {"$ref": _REFERENCE.format(model=JSON_VALUE)},
}
_VALUE: dict[str, Any] = {
    "description": "A value of a free object",
    "type": ["null", "boolean", "number", "string", "array", "object"],
    "minimum": _LEAST,
    "maximum": _MOST,
    "pattern": _TEXT,
    "items": {"$ref": _REFERENCE.format(model=JSON_VALUE)},
    **_FREE_OBJECT,
}
_SHA256 = {"type": "string", "pattern": "^[0-9A-Fa-f]{64}$"}
_BINARY = {"type": "string", "format": "binary"}
_COMPLETE, _COMPLETION = "model_service.openapi", Lock()


def _bodies(file: dict[str, Any]) -> dict[str, Any]:
    fields = {
        "file": file,
        "replace": {"type": "boolean"},
        "confirm": {"type": "string", "pattern": _TEXT},
    }
    return {
        "application/octet-stream": {"schema": file},
        "application/x-tar": {"schema": _BINARY},
        "multipart/form-data": {"schema": {"type": "object", "required": ["file"], "properties": fields}},
    }


_BODIES = _bodies(_BINARY | {"minLength": 1})
# A file in a form with other parts may be empty.
_BODIES_AT_A_PATH = _bodies(_BINARY)


def register_apis(app: OpenAPI, apis: Iterable[APIBlueprint]) -> None:
    """Register the resources.

    Two of them may have the same path with different methods; the library alone documents only the last one.
    """
    for api in apis:
        before = dict(app.paths)
        app.register_api(api)
        for path in before.keys() & api.paths.keys():
            for method in before[path].model_fields_set - api.paths[path].model_fields_set:
                setattr(app.paths[path], method, getattr(before[path], method))


def register_pages(app: OpenAPI) -> None:
    """Register the API reference and its document under /docs."""
    register_page(app)
    app.view_functions["openapi.doc_url"] = lambda: openapi_document(app)


def openapi_document(app: OpenAPI) -> dict[str, Any]:
    """Return the document, with URLs for the address that the client used."""
    with _COMPLETION:
        document = app.extensions.get(_COMPLETE)
        if document is None:
            document = app.extensions[_COMPLETE] = _completed(app)
    return document | {"servers": [{"url": absolute("")}]}


def _completed(app: OpenAPI) -> dict[str, Any]:
    """Complete the library's document. It is changed in place, so this must run once for an application."""
    document: dict[str, Any] = app.api_doc
    schemas = document["components"]["schemas"]
    schemas[JSON_VALUE] = _VALUE
    for body in _subclasses(Body):
        if body.__name__ in schemas:
            described = body.model_json_schema(ref_template=_REFERENCE)
            for name, schema in described.pop("$defs", {}).items():
                schemas[name] = _bounded(schema, _NOT_BLANK)
            schemas[body.__name__] = _bounded(described, _NOT_BLANK)
    schemas["NewUpload"]["properties"]["size_bytes"]["maximum"] = context().settings.max_file_size
    open_routes = {
        (_PARAMETER.sub(r"{\1}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        for method in rule.methods or ()
        if (found := policy_of(app, rule.endpoint)) is not None and found.needs is Caller.ANYONE
    }
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            operation["responses"] |= _ANY_ROUTE
            if (path, method) in open_routes:
                operation["security"] = []
            _complete_parameters(operation, path)
            _complete_body(operation, schemas, path)
            explain(operation)
    return document


def _subclasses(parent: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for each in parent.__subclasses__():
        yield each
        yield from _subclasses(each)


def _bounded(schema: Any, text: str) -> Any:
    """Return the schema with the limits on text and integers that apply everywhere.

    Args:
        text: the pattern of text that must not be empty.
    """
    if isinstance(schema, list):
        return [_bounded(each, text) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _bounded(value, text) for key, value in schema.items()}
    kind = found.get("type")
    if found.get("default", ...) is None and "anyOf" not in found:
        del found["default"]
    if found.get("default") == "" and found.get("minLength"):
        del found["default"]  # a placeholder, which a request cannot send
    if "patternProperties" in found:
        found["additionalProperties"] = False
    if found.get("additionalProperties") is True:
        found |= _FREE_OBJECT
    is_text = kind == "string" and found.get("format") in (None, "password")
    if is_text and not found.keys() & {"pattern", "enum", "const"}:
        found["pattern"] = text if found.get("minLength") else _TEXT
    if kind == "integer" and "enum" not in found:
        if "exclusiveMinimum" not in found:
            found["minimum"] = int(found.get("minimum", _LEAST))
        if "exclusiveMaximum" not in found:
            found["maximum"] = int(found.get("maximum", _MOST))
    return found


def _complete_parameters(operation: dict[str, Any], path: str) -> None:
    """Complete the parameters: nothing in a URL is null, and a list's ``limit`` is at most MAX_PAGE_SIZE."""
    for parameter in operation.get("parameters", []):
        schema = without_null(parameter["schema"])
        if schema.get("description", "").startswith("at most MAX_PAGE_SIZE"):
            schema["maximum"] = context().settings.max_page_size
        parameter["schema"] = schema = _bounded(schema, _TEXT)
        if parameter["in"] == "path" and schema.get("pattern") == _TEXT:
            schema["pattern"] = r"^[^/\u0000]+$"
    raw = operation.get("requestBody", {}).get("content", {})
    if "application/octet-stream" in raw:
        is_part = path.endswith("/parts/{n}")
        operation["parameters"] = [
            *operation.get("parameters", []),
            {"name": "X-Content-SHA256", "in": "header", "required": is_part, "schema": _SHA256},
        ]


def _complete_body(operation: dict[str, Any], schemas: dict[str, Any], path: str) -> None:
    """Mark a JSON body as optional if it may be empty."""
    body = operation.get("requestBody", {})
    content = body.get("content", {})
    bodies = _BODIES_AT_A_PATH if path.endswith("/files/{path}") else _BODIES
    for kind in content.keys() & bodies.keys():
        content[kind] = bodies[kind]
        body["required"] = True
    reference = content.get("application/json", {}).get("schema", {}).get("$ref", "")
    if reference and not schemas[reference.rpartition("/")[2]].keys() & {"required", "minProperties"}:
        body["required"] = False
