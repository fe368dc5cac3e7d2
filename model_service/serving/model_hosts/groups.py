"""The model hosts of this process, one for each trust group.

The folders:

    <home>/hosts/
    └── front-XXXX/       a serving process, locked (flock) while it lives
        └── 0/            a trust group: everything that its model host may read
            └── 17/       a package
"""

from __future__ import annotations

import fcntl
import itertools
import os
import shutil
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exporters.proof.bounded_cost import has_bounded_cost
from model_service.config import Settings
from model_service.serving.common.warm_up import WarmedUp
from model_service.serving.model_hosts.host_process import PROGRAM, Limits
from model_service.serving.model_hosts.model_host import ModelHost
from model_service.storage.deployments.documents import ServedDeployment

# Between its creation and its lock, a folder is protected by its age only.
_YOUNG_S = 60.0


@dataclass
class _Group:
    host: ModelHost
    models: int = 0


class ModelHosts:
    """``program``: the command that starts a host; tests use their own."""

    def __init__(self, settings: Settings, program: Sequence[str] = PROGRAM) -> None:
        self._settings = settings
        self._program = program
        self._limits = Limits(settings.inference_memory, settings.inference_tensors)
        parent = settings.home / "hosts"
        parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _remove_abandoned(parent)
        self._folder = Path(tempfile.mkdtemp(prefix="front-", dir=parent))
        self._locked = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(self._locked, fcntl.LOCK_EX)
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._groups: dict[tuple[str, bool], _Group] = {}

    def group_of(self, deployment: ServedDeployment) -> str:
        """Return the trust group of a deployment; the deployments of a group may share a process."""
        if not self._settings.enable_auth or self._settings.inference_shared_host:
            return "all"
        namespace = deployment.get("namespace")
        return f"namespace {namespace}" if namespace else f"owner {deployment.get('user_id') or ''}"

    def may_run_here(self, deployment: ServedDeployment, folder: Path) -> bool:
        """Return whether the front itself runs the package; all others run in a model host.

        On other platforms than Linux there are no model hosts.
        """
        if sys.platform != "linux":
            return True
        namespace = deployment.get("namespace") or ""
        if self._settings.enable_auth and namespace not in self._settings.trusted_namespaces:
            return False
        return has_bounded_cost(folder)

    def load(self, group: str, folder: Path, *, threads: int, lanes: int, gpu: bool) -> WarmedUp:
        """Load a package in the group's host; it is unloaded with the last reference to its model.

        Raises as ``ModelHost.load``.
        """
        key = (group, gpu)
        with self._lock:
            found = self._groups.get(key)
            if found is None:
                own = self._folder / str(next(self._numbers))
                found = self._groups[key] = _Group(
                    ModelHost(group, self._program, own, self._limits, gpu=gpu)
                )
            found.models += 1
        try:
            warm = found.host.load(folder, threads=threads, lanes=lanes, gpu=gpu)
        except BaseException:
            self._leave(key, found)
            raise
        forgotten = weakref.finalize(warm.runner, self._forget_aside, key, found, warm.runner.number)
        forgotten.atexit = False
        return warm

    def state(self) -> list[dict[str, Any]]:
        """Return, for each host, its group, its process, the number of restarts, and its confinement."""
        with self._lock:
            hosts = [group.host for group in self._groups.values()]
        return [
            {"group": host.name, "pid": host.pid, "restarts": host.restarts, "confined": host.confined}
            for host in hosts
        ]

    def close(self) -> None:
        with self._lock:
            groups, self._groups = list(self._groups.values()), {}
        for group in groups:
            group.host.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        os.close(self._locked)

    def _forget_aside(self, *arguments: Any) -> None:
        """Unload in a new thread: garbage collection may call this in a thread that holds a lock."""
        threading.Thread(target=self._forget, args=arguments, name="model-forgotten", daemon=True).start()

    def _forget(self, key: tuple[str, bool], group: _Group, number: int) -> None:
        group.host.forget(number)
        self._leave(key, group)

    def _leave(self, key: tuple[str, bool], group: _Group) -> None:
        with self._lock:
            group.models -= 1
            ended = not group.models and self._groups.get(key) is group
            if ended:
                del self._groups[key]
        if ended:
            group.host.close()


def _remove_abandoned(parent: Path) -> None:
    """Remove the folders of ended processes, which are not locked."""
    for folder in parent.glob("front-*"):
        try:
            if time.time() - folder.stat().st_mtime < _YOUNG_S:
                continue
            locked = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(locked, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            continue
        finally:
            os.close(locked)
