"""Scan of uploaded files: could loading them run code? The verdict is a warning. Allow-lists and the sandbox
decide what is loaded. No upload waits for its scan, and no verdict rejects one.
"""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any, cast

import structlog

from model_service import processes, tracing
from model_service.errors import is_disk_full
from model_service.jobs import trace, untrusted_json
from model_service.jobs.context import CONTEXT, Context
from model_service.metrics import SCANS
from model_service.storage.blobs.blobs import BlobDamaged, blob_of
from model_service.storage.blobs.disk_space import WORK
from model_service.storage.blobs.documents import Scan
from model_service.storage.common.db import CONNECTION_ERRORS, now
from model_service.storage.common.documents import StoredFile, Verdict

log = structlog.get_logger(__name__)

_LEASE_S = 900.0
_MOST_ATTEMPTS = 3
_TIME_S = 120
_MEMORY_BYTES = 2_000_000_000
_POLL_S = 0.1
_MAX_FINDING_BYTES = 64 * 1024
# Reads an untrusted file, so it confines itself like a conversion before it reads the first byte.
_SCAN = """
import json, pathlib, sys
from exporters.sandbox import landlock, limits
from exporters.sources.scan import scan
limits.isolate_network()
folder = pathlib.Path(sys.argv[1])
landlock.confine_to(folder)
limits.die_with_parent()
limits.apply({"memory_bytes": int(sys.argv[3]), "cpu_s": int(sys.argv[4]), "file_bytes": 1 << 20})
print(json.dumps(scan(folder / sys.argv[2])))
"""


class _Stopping(Exception):
    """The worker is stopping."""


def scan(model_id: str) -> None:
    """Scan the unscanned files of a model, unless another worker has leased the model."""
    context = CONTEXT.get()
    if context.disk.short(WORK):
        return  # the model keeps waiting, and the reconciler enqueues it again until there is space
    note = context.stores.scans.begin(model_id, _LEASE_S)
    if note is None:
        return
    with trace.continued("scan", note.get("traceparent"), model_id=model_id):
        _scan_all(context, note)


def _scan_all(context: Context, note: Scan) -> None:
    scans, models, model_id = context.stores.scans, context.stores.models, str(note["_id"])
    try:
        for file in scans.unscanned(note["_id"]):
            finding = scans.finding(file["file_id"])
            if finding is None:
                tried = note["attempts"] > _MOST_ATTEMPTS
                finding = _unknown("The scan did not finish.") if tried else _scan(context, file)
                SCANS.labels(verdict=finding["verdict"]).inc()
            with models.changing(note["_id"]):
                scans.record(note["_id"], file, finding)
        scans.end(note)
    except _Stopping:
        scans.put_back(note)
    except CONNECTION_ERRORS as exc:
        log.warning("scan.interrupted", model_id=model_id, error=str(exc))  # its lease expires
    except Exception as exc:
        if is_disk_full(exc):
            scans.put_back(note)
        log.exception("scan.broken", model_id=model_id)


def _scan(context: Context, file: StoredFile) -> Verdict:
    if file["size_bytes"] > context.settings.export_disk:
        return _unknown("The file is larger than EXPORT_DISK.")
    # The suffix is a hint at the file's type; nothing else of the client's file name is used.
    name = f"file{Path(file['path']).suffix[:20]}"
    with context.converter.scratch() as folder:
        blob = blob_of(file)
        try:
            with (folder / name).open("wb") as copy:
                for piece in context.stores.blobs.read(blob.id, 0, blob.size_bytes):
                    copy.write(piece)
        except BlobDamaged:
            return _unknown("The stored file is damaged.")
        with tracing.span("scanner"):
            found = _ask(context, folder, name)
    log.info("scan.done", checksum=file["checksum"], verdict=found.get("verdict"))
    return found


def _ask(context: Context, folder: Path, name: str) -> Verdict:
    """Run the scanner on a file in the folder, in a confined process, and return its verdict.

    Raises:
        _Stopping.
    """
    arguments = [str(folder), name, str(_MEMORY_BYTES), str(_TIME_S)]
    answer, errors = folder / "answer", folder / "errors"
    with answer.open("wb") as output, errors.open("wb") as complaints:
        process = processes.start(
            [sys.executable, "-I", "-c", _SCAN, *arguments],
            folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=complaints,
        )
        deadline = time.monotonic() + _TIME_S
        try:
            while process.poll() is None:
                if context.stopping.is_set():
                    raise _Stopping
                if time.monotonic() > deadline:
                    return _unknown("The scan took too long.")
                time.sleep(_POLL_S)
        finally:
            processes.kill_group(process)
            process.wait()
    said = answer.read_bytes()[: _MAX_FINDING_BYTES + 1]
    if process.returncode != 0:
        log.warning("scan.failed", status=process.returncode, error=errors.read_text(errors="replace")[-500:])
        return _unknown("The scanner failed on this file.")
    try:
        found: Any = untrusted_json.parse(said) if len(said) <= _MAX_FINDING_BYTES else None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        return _unknown("The scanner returned no result.")
    return cast(Verdict, found | {"scanned_at": now()})


def _unknown(reason: str) -> Verdict:
    """Return a verdict in the form of ``exporters.sources.scan``, for a file that could not be scanned."""
    return {
        "verdict": "unknown",
        "reason": reason,
        "safe": None,
        "format": None,
        "globals": [],
        "issues": [reason],
        "scanners": {},
        "scanned_at": now(),
    }
