"""What names a dataset: its id, or a reference to a version of a name.

    datasets:/NAME/v1.2   datasets:/NAME/1.2   that version
    datasets:/NAME/latest                      the highest version

``NAME`` may hold a namespace: ``datasets:/vision/digits/latest``. Whatever takes a dataset's id takes these
too.
"""

import re

from model_service.errors import InvalidRequest, MalformedId
from model_service.services.references import LATEST, NAME, VERSION, version_order
from model_service.storage.db import Document, object_id

SCHEME = "datasets:/"
_REFERENCE = re.compile(rf"{SCHEME}(?P<name>{NAME})/(?P<version>{LATEST}|v?[0-9.]+)")


def query_of(text: str) -> Document:
    """What the dataset that is named matches; of several, the highest version is meant.

    Raises:
        MalformedId, InvalidRequest: neither an id nor a reference.
    """
    if not text.startswith(SCHEME):
        if (parsed := object_id(text)) is None:
            raise MalformedId("dataset", text)
        return {"_id": parsed}
    match = _REFERENCE.fullmatch(text)
    if match is not None:
        name, version = match.group("name", "version")
        if version == LATEST:
            return {"name": name}
        version = "v" + version.removeprefix("v")
        if VERSION.fullmatch(version):
            return {"name": name, "version_order": version_order(version)}
    raise InvalidRequest(
        f"{text[:300]!r} refers to no dataset: datasets:/NAME/v1.2 or datasets:/NAME/latest.", id=text[:300]
    )
