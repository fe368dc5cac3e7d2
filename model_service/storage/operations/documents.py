"""The documents of maintenance runs and of running processes."""

from datetime import datetime
from typing import Annotated, NotRequired

from pydantic import SkipValidation
from typing_extensions import TypedDict


class MaintenanceRun(TypedDict):
    """The last run of a task. A sweep has ``removed`` and ``errors`` by step, a verification the others."""

    _id: str
    at: datetime
    removed: NotRequired[Annotated[dict[str, int], SkipValidation]]
    errors: NotRequired[Annotated[dict[str, str], SkipValidation]]
    problems: NotRequired[Annotated[int, SkipValidation]]
    repaired: NotRequired[Annotated[int, SkipValidation]]
    blobs: NotRequired[Annotated[int, SkipValidation]]
    duration_s: NotRequired[Annotated[float, SkipValidation]]


class LivingProcess(TypedDict):
    """``_id`` is the name of the process, ``at`` the time of its last report."""

    _id: str
    at: datetime


class ToolchainReport(TypedDict):
    """See ``jobs.toolchain.Toolchain``."""

    digest: str
    tools: dict[str, str]
    formats: dict[str, dict[str, str | None]]
    libraries: NotRequired[dict[str, str | None]]
    complete: NotRequired[bool]
    hardware: NotRequired[str | None]


class WorkerProcess(LivingProcess):
    """``sandbox``: for ``network`` and ``files``, ``isolated`` or ``open: <reason>``."""

    pid: NotRequired[int]
    sandbox: NotRequired[Annotated[dict[str, str], SkipValidation]]
    toolchain: NotRequired[Annotated[ToolchainReport, SkipValidation] | None]


class InferenceServerProcess(LivingProcess):
    pid: NotRequired[int]
    model_hosts: NotRequired[Annotated[list[dict[str, object]], SkipValidation]]
