"""Events arrive at least once and in order, whatever fails: the receiver, the API, a worker."""

import itertools
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from standardwebhooks import Webhook as Signature

from model_service.client import ConnectionFailed, ModelServiceClient, ServiceUnavailable
from model_service.config import Settings
from model_service.storage.common.db import Database
from tests.e2e.conftest import free_ports
from tests.processes import running
from tests.receiver import Received, Receiver
from tests.waiting import wait_for

T = TypeVar("T")
MODELS, CHANGES = 20, 9  # with the creations, 200 events
STATUSES = ["deprecated", "active"]
SETTINGS: dict[str, Any] = {
    "webhook_allowed_networks": "127.0.0.0/8",
    "webhook_retry_s": 0.2,
    "webhook_timeout_s": 2,
}


class Api:
    """The registry's server as a process of its own, which can be killed."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings, self._folder = settings, folder
        (self.port,) = free_ports(1)
        self._stack = ExitStack()
        self.starts = 0
        self.start()

    def start(self) -> None:
        log = self._folder / f"api-{self.starts}.log"
        self.starts += 1
        self.process: subprocess.Popen[bytes] = self._stack.enter_context(
            running("model_service.api", self._settings, log, port=self.port, **SETTINGS)
        )

    def kill_and_start(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.start()

    def close(self) -> None:
        self._stack.close()


@contextmanager
def api_of(settings: Settings, folder: Path) -> Iterator[Api]:
    api = Api(settings, folder)
    try:
        yield api
    finally:
        api.close()


def delivering(settings: Settings, log: Path) -> AbstractContextManager["subprocess.Popen[bytes]"]:
    return running("model_service.jobs", settings, log, export_prewarm=False, **SETTINGS)


def insist(call: Callable[[], T]) -> T:
    """The answer, though the API may be away for a moment."""
    return wait_for(call, "an answer", ignoring=(ConnectionFailed, ServiceUnavailable))


def states_of(received: list[Received]) -> dict[str, list[str]]:
    """The states of each object in the order of their first arrival."""
    seen: dict[str, list[str]] = {}
    ids: set[str] = set()
    for each in received:
        if each.id not in ids:
            ids.add(each.id)
            seen.setdefault(each.event["data"]["id"], []).append(each.event["type"].partition(".")[2])
    return seen


def test_two_hundred_events_arrive_in_order_though_receiver_api_and_worker_fail(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    """The receiver is away for a third of the changes; the API is killed twice, a worker once."""
    with Receiver() as receiver, api_of(settings, tmp_path) as api, ExitStack() as workers:
        client = ModelServiceClient(f"http://127.0.0.1:{api.port}")
        first, _ = (
            workers.enter_context(delivering(settings, tmp_path / f"worker-{number}.log"))
            for number in range(2)
        )
        insist(lambda: client.list_webhooks().raw)
        webhook = client.create_webhook(receiver.url, ["version.*"])
        assert webhook.secret is not None
        models = [
            insist(partial(client.register_model, name=f"model-{number}", algorithm="svm"))
            for number in range(MODELS)
        ]
        for change, status in zip(range(CHANGES), itertools.cycle(STATUSES), strict=False):
            if change == CHANGES // 3:
                receiver.stop()
            if change == 2 * CHANGES // 3:
                receiver.start()
            if change in (2, 5):
                threading.Timer(0.05, api.kill_and_start).start()  # while it makes the changes below
            if change == 7:
                first.send_signal(signal.SIGKILL)
            for model_id in models:
                insist(partial(client.update_model, model_id, status=status))
        expected = ["created", *itertools.islice(itertools.cycle(STATUSES), CHANGES)]

        def all_arrived() -> bool:
            return len({each.id for each in receiver.received}) >= MODELS * (1 + CHANGES)

        wait_for(all_arrived, "all events", deadline_s=120)
        assert states_of(receiver.received) == dict.fromkeys(models, expected)
        for each in receiver.received:
            Signature(webhook.secret).verify(each.body, each.headers)
        wait_for(lambda: not client.list_deliveries(webhook.id, status="pending").items, "no pending one")
        assert database.webhook_events.count_documents({}) == 0
