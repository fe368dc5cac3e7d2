"""The OpenAPI document: what flask-openapi3 makes of the routes, and the errors any of them may answer."""

from collections.abc import Iterable
from typing import Any

from flask_openapi3 import APIBlueprint, OpenAPI
from flask_openapi3_scalar.templates import scalar_html_string

from model_service.api.urls import absolute, link

_ERROR = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}}
# The library documents its 422 as a list of errors; ours is one, as every other.
_ANY_ROUTE = {
    "422": {"description": "A field is wrong: details.fields names each", **_ERROR},
    "4XX": {"description": "The request cannot be answered: error.code says why", **_ERROR},
    "5XX": {"description": "The service cannot answer now", **_ERROR},
}


def register_apis(app: OpenAPI, apis: Iterable[APIBlueprint]) -> None:
    """Register the resources. Two of them may have a path with different methods, of which the library by
    itself documents the later one's alone.
    """
    for api in apis:
        before = dict(app.paths)
        app.register_api(api)
        for path in before.keys() & api.paths.keys():
            for method in before[path].model_fields_set - api.paths[path].model_fields_set:
                setattr(app.paths[path], method, getattr(before[path], method))


def register_pages(app: OpenAPI) -> None:
    """The API reference and its document under /docs, with links that a proxy's path does not break."""
    app.jinja_env.globals["link"] = link
    app.config["OPENAPI_HTML_STRING"] = (
        '<meta http-equiv="refresh" content="0; url={{ link("/docs/scalar") }}">'
    )
    app.config["SCALAR_HTML_STRING"] = scalar_html_string.replace(
        "<head>", '<head><base href="{{ link("/docs/") }}">', 1
    )
    app.view_functions["openapi.doc_url"] = lambda: openapi_document(app)


def openapi_document(app: OpenAPI) -> dict[str, Any]:
    """The routes, as they are reached at the address that the client used."""
    document: dict[str, Any] = app.api_doc
    schemas = document["components"]["schemas"]
    for methods in document["paths"].values():
        for operation in methods.values():
            operation["responses"] |= _ANY_ROUTE
            _allow_absent_body(operation, schemas)
    return document | {"servers": [{"url": absolute("")}]}


def _allow_absent_body(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    """A JSON body without a required field may be left out."""
    body = operation.get("requestBody", {})
    reference = body.get("content", {}).get("application/json", {}).get("schema", {}).get("$ref", "")
    if reference and not schemas[reference.rpartition("/")[2]].get("required"):
        body["required"] = False
