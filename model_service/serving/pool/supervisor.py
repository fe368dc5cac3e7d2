"""The pool: supervised serving processes that share one port, as many as the deployments want.

The supervisor is small: only the standard library, no settings, no database. It exchanges messages with its
processes over socket pairs, one JSON object per line:

    process → supervisor   {"hello": {"host", "port", "max_processes"}}     its settings are valid
                           {"ready": true}                                  active deployments are loaded
                           {"utilization": 0..1, "wishes": [[min, max, percent, initial]]}     twice a second
    supervisor → process   {"do": "serve"} and the listening socket         accept connections
                           {"do": "share", "share": 0..1}                   move this share of the clients
                           {"do": "drain"}                                  move all clients, then end

When the supervisor ends for any reason, the socket closes and its processes end.
"""

import contextlib
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Sequence
from typing import Any

from model_service.metrics_folder import counting_together, write_state
from model_service.serving.pool.listeners import Listeners, PortTaken
from model_service.serving.pool.plain_log import log_line
from model_service.serving.pool.scaling import Scaler, Wish
from model_service.serving.pool.slot import Slot
from model_service.signals import waking

STATE = "pool.json"  # in the folder of the metrics
WRONG_SETTINGS = 2  # the exit code for wrong settings, with which another process would fail too
STOP_S = 8.0  # the time that a process has to end after a request
_TURN_S = 0.5
# How long a client's connection waits for a dead process's successor to start, and to load.
_VACANT_S = 3.0
_SUCCEEDING_S = 15.0
_ALONE_S = 5.0  # the only process serves after this time, even if it is not loaded
_DRAINED_S = 45.0  # the time after which a removed process has ended
_SILENT_S = 60.0  # a process without messages for so long hangs
_UNROUTED_S = 0.2  # until a socket without new connections has accepted those on their way


class Pool:
    """``command`` starts one process; ``--index`` and ``--control`` are added to it."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._selector = selectors.DefaultSelector()
        self._slots: list[Slot] = []
        self._listeners: Listeners | None = None
        self._scaler: Scaler | None = None
        self._proven = False  # at least one of its processes was ready
        self._size = 1
        self._measured = 0.0
        self._leaving: tuple[Slot, float] | None = None  # gets no more connections, and drains at this time
        self._stopping = False
        self._started_at = time.time()
        self._deaths = 0

    def run(self) -> int:
        """Run until SIGTERM or SIGINT. Return an exit code, which is not 0 if the start failed."""
        with (
            counting_together(),
            self._selector,
            waking(self._selector, [signal.SIGINT, signal.SIGTERM], self._ask_to_stop),
        ):
            self._write_state()
            self._slots.append(Slot(0))
            try:
                while not self._stopping:
                    if (code := self._turn()) is not None:
                        return code
            except PortTaken as exc:
                print(exc, file=sys.stderr)
                return WRONG_SETTINGS
            finally:
                self._stop()
        return 0

    def _turn(self) -> int | None:
        """Do one round. Return an exit code if another round is useless."""
        for slot in self._slots:
            if slot.popen is None and not slot.ended and slot.due <= time.monotonic():
                self._start(slot)
        pending = [slot.due - time.monotonic() for slot in self._slots if slot.popen is None]
        self._listen(max(0.0, min([_TURN_S, *pending])))
        for slot in self._slots:
            if slot.popen is not None and (code := slot.popen.poll()) is not None:
                if code in (WRONG_SETTINGS, os.EX_TEMPFAIL) and not self._proven:
                    return code
                self._bury(slot)
        self._slots = [slot for slot in self._slots if not slot.ended]
        self._look_after_listeners()
        self._end_what_hangs()
        self._resize()
        return None

    def _start(self, slot: Slot) -> None:
        try:
            slot.start(self._command)
        except OSError as exc:
            slot.due = time.monotonic() + 1.0
            log_line("error", "pool.start_failed", process=slot.index, error=str(exc))
            return
        self._selector.register(_control(slot), selectors.EVENT_READ, slot)

    def _listen(self, timeout_s: float) -> None:
        """Wait for messages of the processes or a signal, and handle them."""
        for key, _ in self._selector.select(timeout_s):
            if not isinstance(key.data, Slot):
                key.data.recv(4096)
                continue
            messages = key.data.messages()
            if messages is None:
                self._selector.unregister(_control(key.data))
            for message in messages or []:
                self._take_in(key.data, message)

    def _take_in(self, slot: Slot, message: dict[str, Any]) -> None:
        if (hello := message.get("hello")) is not None and self._listeners is None:
            self._listeners = Listeners(hello["host"], hello["port"])
            self._scaler = Scaler(hello["max_processes"] if sys.platform == "linux" else 1)
            log_line("info", "pool.started", address=f"{hello['host']}:{hello['port']}")
            self._serve(slot)  # the first one serves immediately: /health reports its progress
        if "ready" in message:
            slot.ready = self._proven = True
            seconds = round(time.monotonic() - slot.started, 3)
            log_line("info", "pool.process_ready", process=slot.index, pid=_pid(slot), after_s=seconds)
        if "wishes" in message:
            slot.utilization = message["utilization"]
            slot.wishes = [Wish(*wish) for wish in message["wishes"]]

    def _serve(self, slot: Slot) -> None:
        assert self._listeners is not None
        before = len(self._listeners)
        try:
            listener = slot.listener = slot.listener or self._listeners.open()
        except OSError as exc:
            log_line("error", "pool.listen_failed", process=slot.index, error=str(exc))
            slot.signal(signal.SIGTERM)
            return
        slot.serving = True
        slot.send({"do": "serve"}, [listener.fileno()])
        for other in self._slots:
            if other is not slot and other.serving and before:
                # Moved clients may come back and be moved again: with p = 1 / (1 + r), the share r = before /
                # now of the clients stays where it was.
                other.send({"do": "share", "share": (before + 1) / (2 * before + 1)})

    def _look_after_listeners(self) -> None:
        if self._listeners is None:
            return
        now = time.monotonic()
        any_serving = any(slot.serving for slot in self._slots)
        for slot in self._slots:
            patience_s = _VACANT_S if slot.popen is None else _SUCCEEDING_S
            if slot.listener is not None and not slot.serving and now - slot.died > patience_s:
                self._listeners.close(slot.listener)  # connections are refused instead of kept waiting
                slot.listener = None
            if slot.popen is None or slot.serving or slot.stop_requested_at is not None:
                continue
            alone = not any_serving and now - slot.started > _ALONE_S
            if (slot.ready and not self._is_shrinking()) or alone:
                self._serve(slot)
        if self._leaving is not None and now >= self._leaving[1]:
            slot, _ = self._leaving
            self._leaving = None
            slot.send({"do": "drain"})

    def _is_shrinking(self) -> bool:
        return any(slot.stop_requested_at is not None for slot in self._slots)

    def _end_what_hangs(self) -> None:
        now = time.monotonic()
        for slot in self._slots:
            if slot.popen is None:
                continue
            late = slot.stop_requested_at is not None and now - slot.stop_requested_at > _DRAINED_S
            if late or now - slot.last_message_at > _SILENT_S:
                log_line("warning", "pool.process_hangs", process=slot.index, pid=_pid(slot))
                slot.signal(signal.SIGKILL)
                slot.last_message_at = now

    def _resize(self) -> None:
        if self._scaler is None or time.monotonic() - self._measured < _TURN_S:
            return
        self._measured = time.monotonic()
        staying = [slot for slot in self._slots if slot.stop_requested_at is None]
        reporting = [slot for slot in staying if slot.ready and slot.wishes is not None]
        if not reporting:
            return
        newest = max(reporting, key=lambda slot: slot.last_message_at)
        loads = [slot.utilization for slot in reporting]
        size = self._scaler.size(self._measured, loads, newest.wishes or [])
        if size != self._size:
            load = round(sum(loads) / len(loads), 2)
            log_line("info", "pool.resized", processes=size, before=self._size, utilization=load)
            self._size = size
        taken = {slot.index for slot in self._slots}
        for _ in range(size - len(staying)):
            index = next(index for index in range(len(taken) + 1) if index not in taken)
            taken.add(index)
            self._slots.append(Slot(index))
        if len(staying) > size and self._leaving is None and not self._is_shrinking():
            self._give_back(staying)

    def _give_back(self, staying: list[Slot]) -> None:
        """Remove one of the processes, unnoticed by clients."""
        assert self._listeners is not None
        now = time.monotonic()
        idle = [slot for slot in staying if not slot.serving]
        if idle:
            slot = idle[-1]
            slot.signal(signal.SIGTERM)
            if slot.popen is None:
                self._forget(slot)
        else:
            last = self._listeners.last_of([slot.listener for slot in staying if slot.listener is not None])
            slot = next(slot for slot in staying if slot.listener is last)
            self._listeners.route_to(len(self._listeners) - 1)
            self._leaving = (slot, now + _UNROUTED_S)
        slot.stop_requested_at = now

    def _forget(self, slot: Slot) -> None:
        slot.ended = True
        if slot.listener is not None and self._listeners is not None:
            self._listeners.close(slot.listener)
            self._listeners.route_to_all()

    def _bury(self, slot: Slot) -> None:
        with contextlib.suppress(KeyError):
            self._selector.unregister(_control(slot))
        pid = _pid(slot)
        ending, pause_s = slot.bury()
        if self._leaving is not None and self._leaving[0] is slot:
            self._leaving = None
        if slot.stop_requested_at is None:
            self._deaths += 1
            self._write_state()
            log_line(
                "warning", "pool.process_died", process=slot.index, pid=pid, ending=ending, again_in_s=pause_s
            )
            return
        self._forget(slot)
        log_line("info", "pool.process_given_back", process=slot.index, pid=pid)

    def _stop(self) -> None:
        """Stop all processes; running requests have up to STOP_S."""
        if self._listeners is not None:
            self._listeners.close_all()
        deadline = time.monotonic() + STOP_S
        running = [slot.popen for slot in self._slots if slot.popen is not None]
        for popen in running:
            popen.send_signal(signal.SIGTERM)
        while running := [popen for popen in running if popen.poll() is None]:
            if time.monotonic() > deadline:
                for popen in running:
                    popen.kill()
            time.sleep(0.02)

    def _write_state(self) -> None:
        """Write what ``hosting/deployment_metrics.py`` exposes of the pool."""
        write_state(STATE, {"started_at": self._started_at, "deaths": self._deaths})

    def _ask_to_stop(self) -> None:
        self._stopping = True


def _control(slot: Slot) -> socket.socket:
    assert slot.control is not None
    return slot.control


def _pid(slot: Slot) -> int | None:
    return slot.popen.pid if slot.popen is not None else None
