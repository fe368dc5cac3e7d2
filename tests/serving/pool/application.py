"""What the pool's tests serve: real processes, and no model."""

import asyncio
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

from model_service.config import Settings
from model_service.metrics import INFERENCES, exposition


class Application:
    """``folder/wishes`` is what the deployments want; with ``folder/never-ready``, it loads for ever."""

    threads = 1

    def __init__(self, folder: Path) -> None:
        self.ready = threading.Event()
        self._folder = folder

    async def rsgi(self, scope: Any, protocol: Any) -> None:
        content = str(os.getpid()).encode()
        match scope.path:
            case "/":
                INFERENCES.labels(status=200).inc()
            case "/slow":
                (self._folder / "slow").touch()
                await asyncio.sleep(1)
            case "/busy":
                until = time.thread_time() + 0.01
                while time.thread_time() < until:
                    pass
            case "/metrics":
                content = exposition()
        protocol.response_bytes(200, [("content-type", "text/plain")], content)

    def start(self) -> None:
        if not (self._folder / "never-ready").exists():
            self.ready.set()

    def stop(self) -> None:
        (self._folder / f"stopped-{os.getpid()}").touch()

    def load(self) -> tuple[float, list[tuple[int, int, float]]]:
        wishes = self._folder / "wishes"
        return 0.0, [(*wish,) for wish in json.loads(wishes.read_bytes())] if wishes.exists() else []


def make(settings: Settings, index: int) -> Application:
    if (settings.home / "broken").exists():
        raise RuntimeError("this process cannot come up")
    return Application(settings.home)
