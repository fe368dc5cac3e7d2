"""The API reference page, and the summaries, descriptions and examples of the OpenAPI document.

Summaries and descriptions are the views' docstrings. Examples are in ``examples.json``, by the name of the
schema; a test validates each against its schema.
"""

import json
from functools import cache
from importlib import resources
from typing import Any

from flask_openapi3 import OpenAPI

from model_service.api.http.urls import absolute, link

TITLE = "Model Service API"
DESCRIPTION = """
Register models and their files, export them to other formats, and serve verified exports.

- If the service asks for a credential, send a key as `X-API-Key`, or a key or a session's token as
  `Authorization: Bearer`.
- A path that takes the id of a model also takes `NAME/v1.2`, `NAME@ALIAS` or `NAME/latest`, percent-encoded
  as one segment.
- Every error is `{"success": false, "error": {"code", "message", "details"}, "request_id"}`.
""".strip()

# The page sends no request to another host: its settings contain none, and the content security policy allows
# none. Its script sets styles and compiles JSON schemas.
_POLICY = "; ".join(
    [
        "default-src 'self' HERE",
        "script-src 'self' 'unsafe-eval' HERE",
        "style-src 'self' 'unsafe-inline' HERE",
        "img-src 'self' data: blob: HERE",
        "font-src 'self' data:",
        "worker-src 'self' blob:",
        "form-action 'none'",
    ]
).replace("HERE", "{{ absolute('/') }}")
_PAGE = """<!doctype html>
<html lang="en">
  <head>
    <base href="{{ link('/docs/') }}">
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <meta http-equiv="Content-Security-Policy" content="POLICY">
    <title>TITLE</title>
    <link rel="shortcut icon" href="scalar/images/scalar.svg">
  </head>
  <body>
    <script id="api-reference" data-url="openapi.json"
      data-configuration="{{ scalar_config|tojson|forceescape }}"></script>
    <script src="scalar/js/scalar.standalone.js"></script>
  </body>
</html>
"""
_CONFIGURATION = {
    "agent": {"disabled": True},
    "customCss": "a[href='https://www.scalar.com'] { display: none }",
    "hideClientButton": True,
    "showDeveloperTools": "never",
    "showToolbar": "never",
    "telemetry": False,
    "withDefaultFonts": False,
}


def register_page(app: OpenAPI) -> None:
    """Register the page under /docs, with links that work behind a proxy with a path."""
    app.jinja_env.globals |= {"link": link, "absolute": absolute}
    app.config["OPENAPI_HTML_STRING"] = (
        '<meta http-equiv="refresh" content="0; url={{ link("/docs/scalar") }}">'
    )
    app.config["SCALAR_HTML_STRING"] = _PAGE.replace("POLICY", _POLICY).replace("TITLE", TITLE)
    app.config["SCALAR_CONFIG"] = _CONFIGURATION


def explain(operation: dict[str, Any]) -> None:
    """Add the examples to an operation, and remove the line breaks that the library adds to its text."""
    operation["summary"] = operation["summary"].removesuffix(".")
    text = operation.get("description", "").replace("<br/>", "\n").strip()
    operation["description"] = text.replace("``", "`")
    examples = _examples()
    for parameter in operation.get("parameters", []):
        if parameter["in"] == "path" and parameter["name"] in examples["path_parameters"]:
            parameter["example"] = examples["path_parameters"][parameter["name"]]
    contents = [operation.get("requestBody", {}), *operation["responses"].values()]
    for content in contents:
        for described in content.get("content", {}).values():
            name = described.get("schema", {}).get("$ref", "").rpartition("/")[2]
            if name in examples["schemas"]:
                described["example"] = examples["schemas"][name]


@cache
def _examples() -> dict[str, Any]:
    text = resources.files(__package__).joinpath("examples.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found
