"""Models, datasets and deployments in URLs: a reference is a single, escaped segment of the path."""

import re
from typing import Literal

from model_service.client.errors import InvalidArgument
from model_service.client.transport.http import segment

# A model or dataset with a slash in its name needs a version; otherwise the path is that of another route.
_VERSIONED = re.compile(r"(?:[^/@.][^/@]*/)?[^/@.][^/@]*(?:@[^/@]+|/(?:latest|v?[0-9]+(?:\.[0-9]+)?))")
_EXAMPLES = {"models": "{0}@ALIAS, {0}/v1.2 or {0}/latest", "datasets": "{0}/v1.2 or {0}/latest"}


def url_of(kind: Literal["models", "datasets", "deployments"], reference: str) -> str:
    """Return the path of the model, dataset or deployment with an id or a reference.

    Raises:
        InvalidArgument: it is empty, or a name with its namespace and no version.
    """
    bare = reference.removeprefix(f"{kind}:/")
    if "/" in bare and not _VERSIONED.fullmatch(bare):
        if kind == "deployments":
            raise InvalidArgument(
                f"{reference!r} is not the id or name of a deployment: neither contains a '/'."
            )
        raise InvalidArgument(f"{reference!r} has no version: write {_EXAMPLES[kind].format(bare)}.")
    return f"/api/v1/{kind}/{segment(reference)}"
