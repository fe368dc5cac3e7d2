"""One model host across its restarts, and the packages loaded in it.

A thread starts the process, makes it load every package again, and waits for its end.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from exporters.base import TensorSpec
from model_service.metrics import MODEL_HOST_RESTARTS
from model_service.serving.common.warm_up import Cost, LoadFailed, WarmedUp
from model_service.serving.model_hosts import channel
from model_service.serving.model_hosts.dispatcher import Dispatcher
from model_service.serving.model_hosts.host_process import HostProcess, Limits
from model_service.serving.model_hosts.runs import HostedModel, error_of

log = structlog.get_logger(__name__)

_LOAD_S = 600.0
_LOAD_ATTEMPTS = 2
_LONGEST_PAUSE_S = 10.0


@dataclass
class _Package:
    folder: Path
    message: dict[str, Any]
    crashes: int = 0


class ModelHost:
    """A model host. ``name`` is that of its trust group.

    ``folder``: the only folder that it may read; its packages are linked there.
    """

    def __init__(self, name: str, program: Sequence[str], folder: Path, limits: Limits, *, gpu: bool) -> None:
        self.name = name
        self._program = program
        self.confined: dict[str, str] = {}
        self.restarts = -1
        self._folder = folder
        self._limits = limits
        self._gpu = gpu
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._ready = threading.Condition(self._lock)
        self._packages: dict[int, _Package] = {}
        self._starting: HostProcess | None = None
        self._closed = False
        self._runs = Dispatcher(name)
        folder.mkdir(parents=True)
        self._thread = threading.Thread(target=self._live, name=f"model-host-{name}", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int | None:
        process = self._runs.process
        return process.popen.pid if process is not None else None

    def close(self) -> None:
        """Close the host and end its process."""
        with self._lock:
            self._closed = True
            processes = self._runs.process, self._starting
            self._ready.notify_all()
        for process in filter(None, processes):
            process.kill()
        self._thread.join()
        shutil.rmtree(self._folder, ignore_errors=True)

    # Packages: called by the loader's thread.

    def load(self, folder: Path, *, threads: int, lanes: int, gpu: bool) -> WarmedUp:
        """Load a package in the host beside the others, and verify it.

        Raises:
            LoadFailed: the package itself is at fault, it ended the host's process too often, or it loads too
                long.
            LimitExceeded, OSError: a problem of this machine.
        """
        with self._lock:
            number = next(self._numbers)
        linked = self._folder / str(number)
        _link(folder, linked)
        message = {"do": "load", "model": number, "folder": str(linked), "threads": threads}
        package = _Package(linked, message | {"lanes": lanes, "gpu": gpu})
        try:
            while True:
                process = self._awaited()
                answer = self._loaded(process, package)
                if answer is not None:
                    with self._lock:
                        if self._runs.process is process:
                            self._packages[number] = package
                            break
            return self._warmed_up(number, answer)
        except BaseException:
            self.forget(number)
            shutil.rmtree(linked, ignore_errors=True)
            raise

    def forget(self, number: int) -> None:
        """Unload a model that gets no more runs."""
        with self._lock:
            package = self._packages.pop(number, None)
            process = self._runs.process
        if process is not None:
            with contextlib.suppress(channel.Closed):
                process.tell({"do": "forget", "model": number})
        if package is not None:
            shutil.rmtree(package.folder, ignore_errors=True)

    def _awaited(self) -> HostProcess:
        with self._ready:
            self._ready.wait_for(lambda: self._runs.process is not None or self._closed, _LOAD_S)
            if self._runs.process is None:
                raise OSError("The model host does not start; the server's log has the cause.")
            return self._runs.process

    def _loaded(self, process: HostProcess, package: _Package) -> dict[str, Any] | None:
        """Return the host's answer; None if its process ended meanwhile and the load must be retried.

        Raises as ``load``.
        """
        process.loading += 1
        connection = None
        try:
            connection = process.connect()
            answer = connection.ask(package.message, _LOAD_S)
        except TimeoutError:
            process.kill(runs_are_innocent=True)
            raise LoadFailed(f"The model did not load within {_LOAD_S:g} s.") from None
        except channel.Closed:
            if process.culprit is None and not self._closed:
                package.crashes += 1
            if package.crashes >= _LOAD_ATTEMPTS:
                raise LoadFailed(
                    "The model crashed its process twice while it was loaded, so it is not loaded again."
                ) from None
            process.kill()
            process.popen.wait()
            with self._ready:
                self._ready.wait_for(lambda: self._runs.process is not process or self._closed, _LOAD_S)
            return None
        finally:
            process.loading -= 1
            if connection is not None:
                connection.close()
        if "error" in answer:
            raise error_of(answer)
        return answer

    def _warmed_up(self, number: int, answer: dict[str, Any]) -> WarmedUp:
        try:
            inputs, outputs = (
                [_specification(each) for each in answer[name]] for name in ("inputs", "outputs")
            )
            cost = Cost(float(answer["seconds"]), int(answer["elements"]))
            most = answer["most_rows"]
            most_rows = None if most is None else max(1, int(most))
        except (KeyError, TypeError, ValueError):
            raise LoadFailed(
                "The model's process sent an unexpected message while the model was loaded."
            ) from None
        model = HostedModel(self._runs, number, inputs, outputs)
        return WarmedUp(model, cost, answer["mixes_rows"] is not False, most_rows)

    # The process: called by the host's thread.

    def _live(self) -> None:
        failures = 0
        while not self._closed:
            process = self._started()
            if process is None:
                failures += 1
                with self._ready:
                    pause_s = min(0.1 * 2**failures, _LONGEST_PAUSE_S)
                    self._ready.wait_for(lambda: self._closed, pause_s)
                continue
            failures = 0
            with self._ready:
                self._runs.process_ready(process)
                self.restarts += 1
                if self.restarts:
                    MODEL_HOST_RESTARTS.inc()
                self._ready.notify_all()
                if self._closed:
                    process.kill()
            how = process.wait()
            with self._lock:
                self._runs.process = None
            last_words = process.close()
            if not self._closed:
                self._runs.process_ended(process, how, last_words)

    def _started(self) -> HostProcess | None:
        """Return a process with all packages loaded; None if that failed."""
        process = None
        try:
            process = HostProcess(self._program, self._folder, self._limits, gpu=self._gpu)
            with self._lock:
                self._starting = process
                if self._closed:
                    process.kill()
            self.confined = dict(process.confined())
            for package in self._in_order():
                self._load_again(process, package)
            log.info("model_host.ready", group=self.name, pid=process.popen.pid, confined=self.confined)
            return process
        except (OSError, TimeoutError, channel.Closed) as exc:
            words = ""
            if process is not None:
                process.kill()
                process.wait()
                words = process.close()
            log.warning("model_host.not_started", group=self.name, error=str(exc), last_words=words)
            return None

    def _in_order(self) -> list[_Package]:
        """Return the packages to load; those that crashed come last, and are dropped after two crashes."""
        with self._lock:
            packages = sorted(self._packages.values(), key=lambda package: package.crashes)
        return [package for package in packages if package.crashes < _LOAD_ATTEMPTS]

    def _load_again(self, process: HostProcess, package: _Package) -> None:
        connection = process.connect()
        try:
            answer = connection.ask(package.message, _LOAD_S)
        except (TimeoutError, channel.Closed):
            package.crashes += 1
            raise
        finally:
            connection.close()
        if "error" in answer:  # it was loaded here before
            package.crashes += 1
            raise OSError(str(answer.get("message"))[:300])
        package.crashes = 0


def _specification(document: Any) -> TensorSpec:
    """Parse a tensor's specification. Raises KeyError, TypeError, ValueError if it is invalid."""
    spec = TensorSpec.from_json(document)
    shape_fits = all(size.__class__ in (int, str) for size in spec.shape)
    if not isinstance(spec.name, str) or not isinstance(spec.dtype, str) or not shape_fits:
        raise ValueError("not a specification of a tensor")
    return spec


def _link(source: Path, target: Path) -> None:
    """Link the package into the host's own folder, the only one that it may read."""
    try:
        shutil.copytree(source, target, copy_function=os.link)
    except (OSError, shutil.Error):  # another file system, or one without links
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)
