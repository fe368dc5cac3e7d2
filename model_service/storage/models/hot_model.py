"""A model's response as ``HotModels`` stores it."""

from collections.abc import Callable
from dataclasses import dataclass

from model_service.storage.models.documents import Model


@dataclass(frozen=True, slots=True)
class HotModel:
    """The rendered response of one model, and the fields that decide who may read it."""

    name: str
    revision: int
    body: bytes

    @classmethod
    def of(cls, document: Model, render: Callable[[Model], bytes]) -> "HotModel":
        return cls(document["name"], document["revision"], render(document))

    def pack(self) -> bytes:
        return b"=%s\n%d\n%s" % (self.name.encode(), self.revision, self.body)

    @classmethod
    def unpack(cls, packed: bytes) -> "HotModel":
        name, revision, body = packed[1:].split(b"\n", 2)
        return cls(name.decode(), int(revision), body)
