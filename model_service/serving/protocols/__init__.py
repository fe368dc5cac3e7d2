"""The codecs of requests and responses, as pure functions between bytes and arrays. No I/O, no waiting.

    platform   POST /v1/infer/{id}: images, texts and tensors as JSON, .npy, .npz, a form, or an image alone
    oip        the Open Inference Protocol v2, JSON and binary; oip.documents: its descriptions of models

For any input of a client they raise no error except InvalidRequest, and use at most a few times the memory of
the body's limit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from exporters.base import Arrays, TensorSpec
    from exporters.processing.image import Geometry
    from exporters.processing.table import Table

JSON = "application/json"
# The limit of a body, and of the data decoded from it; the default of MAX_INFERENCE_BODY.
LIMIT_BYTES = 64_000_000


class Answer(NamedTuple):
    """``headers``: those besides Content-Type, in lower case."""

    content_type: str
    headers: list[tuple[str, str]]
    body: bytes


class Processing(Protocol):
    """A model's processing, as in ``exporters.processing.pipeline.Pipeline``."""

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

    @property
    def table(self) -> Table | None: ...

    def records(self, data: Any, limit_bytes: int | None = None) -> Arrays: ...

    def prepare(self, items: Sequence[Any]) -> tuple[Arrays, list[Geometry] | None]: ...


class Model(Protocol):
    """The properties of a model that are needed to decode its requests."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]: ...

    @property
    def outputs(self) -> tuple[TensorSpec, ...]: ...

    @property
    def pipeline(self) -> Processing: ...
