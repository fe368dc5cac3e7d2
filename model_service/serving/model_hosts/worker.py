"""The main loop of a confined model host: it loads packages, and runs them.

The main thread reads the control socket. Each connection has a thread that handles one message at a time.
``channel.py`` describes the messages.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from exporters.errors import as_limit
from exporters.runners import InputError, Runner, Stop, predict_until
from model_service.serving.common.fair_semaphore import FairSemaphore
from model_service.serving.common.freed_memory import keep_freed_memory
from model_service.serving.common.warm_up import LoadFailed, warmed_up
from model_service.serving.model_hosts import channel
from model_service.serving.model_hosts.memory import SharedMemory


@dataclass(frozen=True)
class _Model:
    runner: Runner
    turns: FairSemaphore


@dataclass
class _Connection:
    end: socket.socket
    memory: SharedMemory
    # The current run; the control thread requests its stop.
    run: int = -1
    stop: Stop = field(default_factory=Stop)


class Worker:
    """``limit_bytes``: the limit of one shared memory."""

    def __init__(self, control: socket.socket, limit_bytes: int) -> None:
        self._control = control
        self._limit_bytes = limit_bytes
        self._models: dict[int, _Model] = {}
        self._connections: dict[int, _Connection] = {}

    def run(self, confined: Mapping[str, str]) -> None:
        """Read messages until the front closes the control socket, or ends."""
        keep_freed_memory()
        channel.send(self._control, {"confined": dict(confined)})
        while True:
            content, descriptors, _, _ = socket.recv_fds(self._control, 1 << 16, 2)
            try:
                message = channel.parsed(content)
            except channel.Closed:
                return
            match message["do"]:
                case "connect":
                    self._connect(message["id"], *descriptors)
                case "stop":
                    connection = self._connections.get(message["id"])
                    if connection is not None and connection.run == message["run"]:
                        connection.stop.ask()
                case "forget":
                    self._models.pop(message["model"], None)

    def _connect(self, number: int, end: int, memory: int) -> None:
        connection = _Connection(socket.socket(fileno=end), SharedMemory(memory, self._limit_bytes))
        self._connections[number] = connection
        threading.Thread(target=self._answer, args=(number, connection), daemon=True).start()

    def _answer(self, number: int, connection: _Connection) -> None:
        try:
            while True:
                message = channel.receive(connection.end)
                try:
                    answer = self._run(message, connection) if message["do"] == "run" else self._load(message)
                except Exception as exc:
                    answer = channel.failure(_kind(exc, connection.stop), exc)
                channel.send(connection.end, answer)
        except channel.Closed:
            del self._connections[number]
            connection.end.close()
            connection.memory.close()

    def _run(self, message: Mapping[str, Any], connection: _Connection) -> dict[str, Any]:
        model, memory = self._models.get(message["model"]), connection.memory
        if model is None:
            raise LoadFailed("The model could not be loaded again after its process had ended.")
        connection.stop = stop = Stop()
        connection.run = message["run"]
        inputs = memory.take(message["arrays"], copy=False)
        with model.turns:
            memory.began_ns = time.monotonic_ns()
            began = time.perf_counter()
            outputs = predict_until(model.runner, inputs, stop)
            seconds = time.perf_counter() - began
        arrays, _ = memory.put([outputs], message["end"])
        return {"arrays": arrays, "seconds": seconds}

    def _load(self, message: Mapping[str, Any]) -> dict[str, Any]:
        warm = warmed_up(Path(message["folder"]), message["threads"], gpu=message["gpu"])
        self._models[message["model"]] = _Model(warm.runner, FairSemaphore(message["lanes"]))
        return {
            "inputs": [spec.to_json() for spec in warm.runner.inputs],
            "outputs": [spec.to_json() for spec in warm.runner.outputs],
            "seconds": warm.cost.seconds,
            "elements": warm.cost.elements,
            "mixes_rows": warm.mixes_rows,
            "most_rows": warm.most_rows,
        }


def _kind(exc: Exception, stop: Stop) -> str:
    """Return the kind of error for ``runs.error_of``: whose fault it is."""
    if isinstance(exc, InputError):
        return "input"
    if as_limit(exc) is not None:
        return "limit"
    if isinstance(exc, LoadFailed):
        return "load_failed"
    if stop.requested:
        return "stopped"
    return "machine" if isinstance(exc, OSError | ImportError) else "fault"
