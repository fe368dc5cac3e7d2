"""How a model is named in a URL: by its id, or by a reference like ``models:/vision/digits@production``.

A reference holds slashes. Clients percent-encode them, but a WSGI server decodes the path before anybody
reads it, so one path segment is not enough: every route with a model in it takes ``<model_ref:model_id>``.
What the reference means is for ``services.references`` to say, which refuses what is no id and no reference.
"""

from flask import Flask
from werkzeug.routing import BaseConverter

_WORD = r"[A-Za-z0-9][A-Za-z0-9_.\-]*"


class ModelRefConverter(BaseConverter):
    """The forms that begin with ``models:/`` first; else one segment."""

    regex = rf"(?:models:/(?:{_WORD}/)?{_WORD}(?:@{_WORD}|/latest|/v?[0-9]+(?:\.[0-9]+)?)|[^/]+)"
    part_isolating = False


class DatasetRefConverter(BaseConverter):
    """The forms that begin with ``datasets:/`` first; else one segment."""

    regex = rf"(?:datasets:/(?:{_WORD}/)?{_WORD}/(?:latest|v?[0-9]+(?:\.[0-9]+)?)|[^/]+)"
    part_isolating = False


def register_references(app: Flask) -> None:
    """Make ``model_ref`` and ``dataset_ref`` known; before the first blueprint that uses them."""
    app.url_map.converters["dataset_ref"] = DatasetRefConverter
    app.url_map.converters["model_ref"] = ModelRefConverter
