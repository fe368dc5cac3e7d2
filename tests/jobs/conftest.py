"""A worker's context in this process; its conversions run in real child processes."""

import threading
from collections.abc import Iterator

import pytest

from model_service.config import Settings
from model_service.jobs.context import CONTEXT, Context
from model_service.jobs.converter import Converter
from model_service.jobs.queue import Queue
from model_service.jobs.toolchain import Toolchain
from model_service.services import Services, build_services
from model_service.storage.blobs.disk_space import DiskSpace
from model_service.storage.common.db import Database
from model_service.storage.common.secrets import Secrets
from model_service.storage.stores import build_stores


@pytest.fixture
def services(settings: Settings, database: Database) -> Services:
    return build_services(settings, build_stores(database, settings))


@pytest.fixture
def queue(settings: Settings, database: Database) -> Queue:
    return Queue(settings, Secrets(database))


@pytest.fixture
def context(settings: Settings, database: Database) -> Iterator[Context]:
    settings = settings.model_copy(update={"export_prewarm": False})
    context = Context(
        settings=settings,
        worker="test-worker",
        stores=build_stores(database, settings),
        disk=DiskSpace(settings, database),
        converter=Converter(settings),
        stopping=threading.Event(),
        toolchain=Toolchain("these tools", {"onnx": "1"}, {"onnx": {"program": None}}),
    )
    token = CONTEXT.set(context)
    yield context
    CONTEXT.reset(token)
    context.converter.close()
