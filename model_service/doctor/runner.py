"""Runs subjects at the same time, each in a thread of its own that is left behind after its time limit."""

import queue
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from model_service.config import SettingsError
from model_service.doctor.findings import Finding, Setup, error


@dataclass(frozen=True)
class Subject:
    """``check`` yields findings; those before its time limit, or before an exception, are kept."""

    name: str
    check: Callable[[Setup], Iterator[Finding]]
    timeout_s: float


def run(subjects: Iterable[Subject], setup: Setup) -> Iterator[Finding]:
    """Yield the findings of all subjects, in the order of the subjects."""
    running = [(subject, _start(subject, setup)) for subject in subjects]
    began = time.monotonic()
    for subject, findings in running:
        yield from _until(findings, subject, began + subject.timeout_s)


def _start(subject: Subject, setup: Setup) -> "queue.Queue[Finding | None]":
    """Run a subject in a thread. The queue receives its findings, and None at the end."""
    findings: queue.Queue[Finding | None] = queue.Queue()

    def work() -> None:
        try:
            for finding in subject.check(setup):
                findings.put(finding)
        except SettingsError as exc:
            findings.put(error(subject.name, str(exc)))
        except Exception as exc:
            # Not the message, which may contain a secret.
            frame = traceback.extract_tb(exc.__traceback__)[-1]
            place = f"{Path(frame.filename).name}:{frame.lineno}"
            what = f"the check failed: {type(exc).__name__} in {place}"
            findings.put(error(subject.name, f"{what}. This is a bug in model-service: please report it"))
        findings.put(None)

    threading.Thread(target=work, name=subject.name, daemon=True).start()
    return findings


def _until(findings: "queue.Queue[Finding | None]", subject: Subject, deadline: float) -> Iterator[Finding]:
    while True:
        try:
            finding = findings.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            waited = f"no result within {subject.timeout_s:g} s"
            yield error(subject.name, f"{waited}. The network, a disk or the machine is too slow, or hangs")
            return
        if finding is None:
            return
        yield finding
