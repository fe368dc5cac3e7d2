"""Path parameters for models, datasets and deployments: an id or a reference like ``digits@production``.

A reference can contain slashes. Clients percent-encode them, but a WSGI server decodes the path before the
router reads it. So a reference is not one path segment, and each kind has a converter:
``<model_ref:model_id>``. ``services.common.references`` parses the text that a converter accepts.
"""

from flask import Flask
from werkzeug.routing import BaseConverter

_WORD = r"[A-Za-z0-9][A-Za-z0-9_.\-]*"
# Without a scheme, an id is not a namespace: ``ID/files/latest`` is the path of a model's file.
_NO_ID = r"(?![0-9a-fA-F]{24}/)"
_VERSION = r"(?:@[A-Za-z0-9_.\-]+|/latest|/v?[0-9]+(?:\.[0-9]+)?)"


def _versioned(scheme: str) -> str:
    """Return the pattern: first the forms that contain a slash, otherwise one segment."""
    return (
        rf"(?:{scheme}(?:{_WORD}/)?{_WORD}{_VERSION}|(?:{_NO_ID}{_WORD}/)?{_WORD}{_VERSION}"
        rf"|(?:{scheme})?[^/]+)"
    )


class ModelRefConverter(BaseConverter):
    regex = _versioned("models:/")
    part_isolating = False


class DatasetRefConverter(BaseConverter):
    regex = _versioned("datasets:/")
    part_isolating = False


class DeploymentRefConverter(BaseConverter):
    regex = r"(?:deployments:/)?[^/]+"
    part_isolating = False


def register_references(app: Flask) -> None:
    """Register the converters. Call this before the first blueprint that uses them."""
    app.url_map.converters["dataset_ref"] = DatasetRefConverter
    app.url_map.converters["model_ref"] = ModelRefConverter
    app.url_map.converters["deployment_ref"] = DeploymentRefConverter
