"""The context of jobs. The worker creates it once, and jobs read it from ``CONTEXT``."""

from contextvars import ContextVar
from dataclasses import dataclass
from threading import Event

from model_service.config import Settings
from model_service.jobs.converter import Converter
from model_service.jobs.toolchain import Toolchain
from model_service.storage.blobs.disk_space import DiskSpace
from model_service.storage.stores import Stores


@dataclass(frozen=True)
class Context:
    settings: Settings
    worker: str
    stores: Stores
    disk: DiskSpace
    converter: Converter
    stopping: Event
    toolchain: Toolchain | None = None


CONTEXT: ContextVar[Context] = ContextVar("worker context")
