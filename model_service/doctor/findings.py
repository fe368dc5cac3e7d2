"""The result of a check, and what the checks receive."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from model_service.config import Settings


class Status(StrEnum):
    """WARNING: the service works, with the consequence in the message. ERROR: a part of it does not."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


class Part(StrEnum):
    """The parts of the service, which need different things."""

    API = "api"
    WORKER = "worker"
    SERVING = "serving"


@dataclass(frozen=True)
class Finding:
    """``check``: a stable name. ``message``: one line without secrets; for a problem, also what to do."""

    check: str
    status: Status
    message: str


@dataclass(frozen=True)
class Setup:
    """``settings``: with the default in the place of each wrong one; ``wrong``: a line for each of these.

    ``url``: the public URL to check; None: no proxy is checked. ``parts``: what runs on this machine.
    """

    settings: Settings
    wrong: Sequence[str]
    url: str | None = None
    parts: frozenset[Part] = frozenset(Part)


def ok(check: str, message: str) -> Finding:
    return Finding(check, Status.OK, message)


def warning(check: str, message: str) -> Finding:
    return Finding(check, Status.WARNING, message)


def error(check: str, message: str) -> Finding:
    return Finding(check, Status.ERROR, message)


def size(number: float) -> str:
    return f"{number / 1e9:.1f} GB"
