"""A model host whose "torchscript" models are Python: what runs there once a model's code is its maker's.

x[row, 0] says what a run does, and output[row] how it went: DONE, or the errno with which it was refused.
"""

import ctypes
import os
import socket
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from exporters import runners
from exporters.base import TensorSpec
from model_service.serving.model_hosts import process

CRASH, HANG, SOCKET, EXEC, READ, ENVIRONMENT, PARENT, KILL, SLOW, FORGE = range(5001, 5011)
DONE = -1.0
SLOW_S = 2.5


class Hostile:
    def __init__(self, folder: Path) -> None:
        self.inputs = (TensorSpec("x", "float32", ("batch", 3)),)
        self.outputs = (TensorSpec("output", "float32", ("batch", 3)),)
        self._folder = folder

    def predict(self, inputs: Any) -> Any:
        output = inputs["x"] * 2
        worst = self._worst()
        for row, value in enumerate(inputs["x"][:, 0].tolist()):
            if value in worst:
                output[row] = _tried(worst[value])
        return {"output": output}

    def _worst(self) -> dict[float, Callable[[], object]]:
        parent = os.getppid()
        return {
            CRASH: lambda: ctypes.string_at(0),
            HANG: lambda: time.sleep(3600),
            SLOW: lambda: time.sleep(SLOW_S),
            SOCKET: socket.socket,
            EXEC: lambda: os.execv("/bin/true", ["true"]),
            READ: Path("/etc/passwd").read_bytes,
            ENVIRONMENT: Path(f"/proc/{parent}/environ").read_bytes,
            PARENT: lambda: list(self._folder.parent.parent.parent.iterdir()),
            KILL: lambda: os.kill(parent, 0),
            FORGE: _forge_the_clock,
        }


def _forge_the_clock() -> None:
    from model_service.serving.model_hosts import worker  # not earlier: its libraries start threads

    worker.time = types.SimpleNamespace(perf_counter=lambda: 1e300)  # type: ignore[assignment]


def _tried(action: Callable[[], object]) -> float:
    try:
        action()
    except OSError as exc:
        return float(exc.errno or 0)
    return DONE


def main() -> int:
    module = types.ModuleType("hostile_runner")
    module.load = lambda path, threads: Hostile(path.parent)  # type: ignore[attr-defined]
    sys.modules["hostile_runner"] = module
    runners._RUNNERS["torchscript"] = "hostile_runner"
    return process.main()


if __name__ == "__main__":
    sys.exit(main())
