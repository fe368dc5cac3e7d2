"""The thread that loads packages, one at a time, so that a crash identifies the package that caused it."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from weakref import WeakValueDictionary

import structlog

from model_service.serving.common.warm_up import LoadFailed, warmed_up
from model_service.serving.engine.engine import Engine
from model_service.serving.hosting.loaded_deployment import (
    LoadedDeployment,
    build,
    package_id,
    served_members,
)
from model_service.serving.hosting.member import Loaded, load
from model_service.serving.hosting.store import PackageStore
from model_service.serving.model_hosts.groups import ModelHosts
from model_service.states import DeploymentStatus
from model_service.storage.common.db import DATABASE_ERRORS
from model_service.storage.common.documents import BlobReference
from model_service.storage.deployments.documents import Member, ServedDeployment
from model_service.storage.deployments.serving_reports import ServingReports

log = structlog.get_logger(__name__)

MAX_LOAD_ATTEMPTS = 3
_STOP_PATIENCE_S = 2.0  # for a load in progress, which is then abandoned


@dataclass(frozen=True)
class Outcome:
    deployment: ServedDeployment
    result: LoadedDeployment | Exception


class Loader:
    """Loads packages. ``server`` names this server, without dots; a restarted server has the same name.

    ``notify``: called after each load.
    """

    def __init__(
        self,
        reports: ServingReports,
        store: PackageStore,
        engine: Engine,
        hosts: ModelHosts,
        *,
        server: str,
        notify: Callable[[], None],
    ) -> None:
        self._reports = reports
        self._store = store
        self._engine = engine
        self._hosts = hosts
        self._server = server
        self._notify = notify
        self._work: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._outcomes: SimpleQueue[Outcome] = SimpleQueue()
        # Packages that a deployment uses; a revision loads only packages that the previous one did not have.
        self._loaded: WeakValueDictionary[tuple[str, bool, str], Loaded] = WeakValueDictionary()
        self._counted: str | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="loader", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop. A load in progress is not counted as a crash."""
        self._stopping.set()
        self._work.put(lambda: None)
        self._thread.join(_STOP_PATIENCE_S)
        if self._thread.is_alive() and (deployment_id := self._counted) is not None:
            self._uncount(deployment_id)

    def submit(self, deployment: ServedDeployment) -> None:
        """Queue a deployment for loading; ``outcome`` returns the result."""
        self._work.put(partial(self._load, deployment))

    def keep_only(self, references: Iterable[BlobReference]) -> None:
        """Make the store remove every other package, between two loads."""
        self._work.put(partial(self._store.keep_only, references))

    def outcome(self) -> Outcome | None:
        """Return the next load that ended, or None."""
        try:
            return self._outcomes.get_nowait()
        except Empty:
            return None

    def crashes(self, deployment: ServedDeployment) -> int:
        """Return how often this server died while it loaded the deployment."""
        attempts: int = deployment.get("load_attempts", {}).get(self._server, 0)
        return attempts

    def _run(self) -> None:
        while True:
            work = self._work.get()
            if self._stopping.is_set():
                return
            try:
                work()
            except Exception:
                log.exception("serving.store_not_tidied")

    def _load(self, deployment: ServedDeployment) -> None:
        result: LoadedDeployment | Exception
        try:
            result = self._count_and_load(deployment)
        except Exception as exc:
            result = exc
        self._outcomes.put(Outcome(deployment, result))
        self._notify()

    def _count_and_load(self, deployment: ServedDeployment) -> LoadedDeployment:
        deployment_id = deployment["_id"]
        crashes = self.crashes(deployment)
        if crashes >= MAX_LOAD_ATTEMPTS:
            raise LoadFailed(
                f"It crashed the inference server {crashes} times while loading, so it is not "
                "loaded again. The server may have too little memory for it; to retry, delete the "
                "deployment and create it again."
            )
        if deployment["status"] == DeploymentStatus.PENDING:
            self._reports.start_deploying(deployment_id)
        self._counted = deployment_id
        self._reports.set_load_attempts(deployment_id, self._server, crashes + 1)
        try:
            loaded = {
                package_id(member): self._member(deployment, member) for member in served_members(deployment)
            }
            return build(deployment, loaded, self._engine)
        finally:
            self._uncount(deployment_id)
            self._counted = None

    def _member(self, deployment: ServedDeployment, member: Member) -> Loaded:
        gpu: bool = deployment["config"]["gpu_enabled"]
        group = self._hosts.group_of(deployment)
        key = (package_id(member), gpu, group)
        loaded = self._loaded.get(key)
        if loaded is None:
            folder = self._store.fetch(member["package"])
            threads = self._engine.threads
            if self._hosts.may_run_here(deployment, folder):
                runs = partial(warmed_up, threads=threads, gpu=gpu)
            else:
                runs = partial(self._hosts.load, group, threads=threads, lanes=self._engine.lanes, gpu=gpu)
            loaded = self._loaded[key] = load(key[0], folder, runs)
        return loaded

    def _uncount(self, deployment_id: str) -> None:
        try:
            self._reports.set_load_attempts(deployment_id, self._server, 0)
        except DATABASE_ERRORS as exc:  # it is counted once too often, until its next load here ends
            log.warning("serving.load_not_uncounted", deployment_id=deployment_id, error=str(exc))
