"""What is spoken on the wire, as pure functions: bytes in, arrays out, and back. No I/O, no waiting.

    platform   POST /v1/infer/{id}: images, texts and tensors as JSON, .npy, .npz, a form, or an image alone
    oip        the Open Inference Protocol v2, JSON and binary; oip.documents: what it tells about models

Whatever a client sends, they raise an InvalidRequest or nothing, and take no more memory than a few times the
limit of a body.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from exporters.base import Arrays, TensorSpec
    from exporters.processing.image import Geometry

JSON = "application/json"
# Of a body, and of what becomes of one; the setting MAX_INFERENCE_BODY has this default.
LIMIT_BYTES = 64_000_000


class Answer(NamedTuple):
    """``headers``: those beside Content-Type, in lower case."""

    content_type: str
    headers: list[tuple[str, str]]
    body: bytes


class Processing(Protocol):
    """Both sides of a model, as ``exporters.processing.pipeline.Pipeline`` has them."""

    @property
    def takes(self) -> str | None: ...

    @property
    def preprocessing(self) -> Mapping[str, Any] | None: ...

    @property
    def postprocessing(self) -> Mapping[str, Any] | None: ...

    @property
    def classes(self) -> Sequence[str] | None: ...

    @property
    def missing(self) -> frozenset[str]: ...

    def records(self, data: Any) -> Arrays: ...

    def prepare(self, items: Sequence[Any]) -> tuple[Arrays, list[Geometry] | None]: ...


class Model(Protocol):
    """What has to be known of a model to read its requests."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]: ...

    @property
    def outputs(self) -> tuple[TensorSpec, ...]: ...

    @property
    def pipeline(self) -> Processing: ...
