"""Scan an uploaded file and report findings for people to read. The scan allows and refuses nothing.

Lists of bad names have been bypassed many times (picklescan#50, fickling#190), so the loaders make their own
decision. A finding covers the first part of a file only. The scan runs in a child process with limits of its
own, because the scanners disassemble files that may be crafted to keep them busy.
"""

import io
import json
import pickletools
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

from ..errors import ExportError
from . import understood
from .compressed import open_bounded
from .contents import looks_like_pickle
from .understood import kind_of

SCANNERS = ("picklescan", "fickling")
_TIMEOUT_S = 20
_LIMITS = {"memory_bytes": 2 << 30, "cpu_s": 10}
# A process with a second thread, as numpy starts them, can neither leave the network namespace nor be
# confined.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
_READ_BYTES = 8 << 20  # of one pickle
_TOTAL_BYTES = 32 << 20  # of all pickles in an archive
_MEMBERS = 2_000
_GLOBALS = 500
_ISSUES = 50
_VERDICTS = {True: "safe", False: "unsafe", None: "unknown"}
_JOBLIB = "joblib.numpy_pickle.NumpyArrayWrapper"


def scan(path: Path) -> dict[str, Any]:
    """Return ``{"verdict", "reason", "safe", "format", "globals", "issues", "scanners"}``; never raise.

    ``verdict`` is ``safe`` if the whole file was read as data of its kind, and its pickles only name objects
    that the gates know as data. It is ``unsafe`` if the file has content that would run code or do harm.
    Otherwise it is ``unknown``, for example with a class of the user's own. ``reason`` is one sentence.
    ``safe`` is the verdict as True, False or None, for older clients.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="scan-") as own:
            done = subprocess.run(
                [sys.executable, "-m", "exporters.sources.scan", str(path.resolve()), own],
                capture_output=True,
                timeout=_TIMEOUT_S,
                check=False,
                cwd=Path(__file__).parents[2],
                # The service's environment has secrets and is not passed on.
                env={"LANG": "C.UTF-8", "HOME": own, "TMPDIR": own, **_ONE_THREAD},
            )
        found: dict[str, Any] = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        found = _unknown(f"The scanners did not finish within {_TIMEOUT_S} s.")
    except (OSError, ValueError):
        found = _unknown("The scanners ended without a result: the file is too large or malformed.")
    return {"format": kind_of(path), "globals": [], "issues": [], "scanners": _versions()} | found


def verdict(safe: bool | None, reason: str) -> dict[str, Any]:
    """Return the part of a finding that says whether the file is data."""
    return {"verdict": _VERDICTS[safe], "reason": reason, "safe": safe}


def _unknown(reason: str) -> dict[str, Any]:
    return verdict(None, reason) | {"issues": [reason]}


def _versions() -> dict[str, str]:
    found = {}
    for name in SCANNERS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _look(path: Path) -> dict[str, Any]:
    """Scan all pickles in the file and check that the rest is data. Runs in the child process."""
    names: dict[str, None] = {}
    issues: list[str] = []
    harmful, whole = False, True
    for label, data, complete in _pickles(path, issues):
        whole = whole and complete
        if not complete:
            issues.append(f"{label}: only its first {len(data):,} bytes were read.")
        for advise in (_picklescan, _fickling):
            bad, found, said = advise(label, data, complete)
            harmful = harmful or bad
            names.update(dict.fromkeys(found))
            issues += said
        if complete and _JOBLIB not in names and (wrong := _end(data)):
            issues.append(f"{label}: {wrong}")
    if _JOBLIB in names:
        issues.append(
            "joblib arrays are stored between the instructions: the part after the first array was not read."
        )
    strange = [name for name in names if not _is_data(name)]
    kind = kind_of(path)
    try:
        understood.require(path, kind)
    except understood.NotUnderstood as exc:
        harmful = harmful or exc.harmful
        issues.append(str(exc))
    safe = False if harmful else True if whole and not issues and not strange else None
    if strange and not harmful:
        issues.append(f"It refers to {strange[0][:80]}, which is not a known data type.")
    reason = f"It was read completely as data of the kind {kind}." if safe else issues[0]
    return verdict(safe, reason) | {
        "globals": sorted(names)[:_GLOBALS],
        "issues": list(dict.fromkeys(issues))[:_ISSUES],
    }


def _end(data: bytes) -> str | None:
    """Return what is wrong with a pickle's end: it is missing, or unscanned bytes follow it."""
    file = io.BytesIO(data)
    try:
        for _ in pickletools.genops(file):
            pass
    except ValueError:
        return "the pickle has no end."
    more = len(data) - file.tell()
    return f"{more:,} bytes follow the end of the pickle." if more else None


def _is_data(name: str) -> bool:
    from . import OF_WEIGHTS
    from .estimator_globals import CLASSES, VALUES, canonical
    from .pickle_values import CALLS, INERT

    if OF_WEIGHTS.fullmatch(name):
        return True
    known = canonical(*name.rpartition(".")[::2])
    return any(known in table for table in (CLASSES, VALUES, CALLS, INERT)) or known in (
        ("copyreg", "_reconstructor"),
        tuple(_JOBLIB.rsplit(".", 1)),
    )


def _pickles(path: Path, issues: list[str]) -> Iterator[tuple[str, bytes, bool]]:
    """Yield (name, content, whether it is complete) of everything in the file that looks like a pickle."""
    archive = zipfile.is_zipfile(path)
    with path.open("rb") as file:
        head = file.read(4096)
    if looks_like_pickle(head) or not archive:  # a file may be valid both as a pickle and as an archive
        data, complete = _unpacked(path, issues)
        if looks_like_pickle(data[:4096]):
            yield path.name, data, complete
        elif data[:6] == b"\x93NUMPY" and b"|O" in data[:256]:
            start = data.find(b"\x80", 10)
            yield path.name, data[start:], complete
    if archive:
        with path.open("rb") as file:
            yield from _pickles_inside(file, "", issues, [_TOTAL_BYTES])


def _pickles_inside(
    file: IO[bytes], within: str, issues: list[str], left: list[int]
) -> Iterator[tuple[str, bytes, bool]]:
    """Like ``_pickles``, for an archive and the archives in it. ``within``: the name of the outer archive."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            if len(members) > _MEMBERS:
                issues.append(f"Only the first {_MEMBERS:,} of {len(members):,} parts were read.")
            for member in members[:_MEMBERS]:
                with archive.open(member) as part:
                    data = part.read(4096)
                    inner = data[:4] == b"PK\x03\x04"
                    if not (inner or looks_like_pickle(data) or member.filename.lower().endswith(".pkl")):
                        continue
                    data += part.read(min(_READ_BYTES, left[0]))
                    left[0] -= len(data)
                    whole = not part.read(1)
                name = within + member.filename
                if not inner:
                    yield name, data, whole
                elif within or not whole:
                    issues.append(f"The archive {name} inside the archive was not read.")
                else:
                    yield from _pickles_inside(io.BytesIO(data), f"{name}/", issues, left)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError, EOFError) as exc:
        issues.append(f"The archive is damaged: {str(exc)[:100]}")


def _unpacked(path: Path, issues: list[str]) -> tuple[bytes, bool]:
    try:
        with open_bounded(path, _READ_BYTES * 2) as file:
            data = file.read(_READ_BYTES)
            return data, not file.read(1)
    except (ExportError, OSError, EOFError, ValueError, ImportError) as exc:
        issues.append(f"It cannot be unpacked: {str(exc)[:100]}")
    except Exception as exc:  # such as zlib's and lzma's own errors
        issues.append(f"It cannot be unpacked: {type(exc).__name__}")
    return b"", False


def _picklescan(label: str, data: bytes, complete: bool) -> tuple[bool, list[str], list[str]]:
    import logging

    try:
        from picklescan.scanner import SafetyLevel, scan_pickle_bytes
    except ImportError:
        return False, [], ["picklescan is not installed."]
    logging.disable(logging.CRITICAL)
    try:
        result = scan_pickle_bytes(io.BytesIO(data), label)
    except Exception as exc:
        return False, [], [f"{label}: picklescan cannot parse it ({type(exc).__name__})."]
    found = [f"{one.module}.{one.name}" for one in result.globals]
    bad = [f"{one.module}.{one.name}" for one in result.globals if one.safety == SafetyLevel.Dangerous]
    said = [f"{label}: picklescan reports {name} as dangerous." for name in bad]
    if result.scan_err and complete and _JOBLIB not in found:
        said.append(f"{label}: picklescan cannot read it to the end.")
    return bool(bad), found, said


def _fickling(label: str, data: bytes, complete: bool) -> tuple[bool, list[str], list[str]]:
    try:
        from fickling.analysis import Severity, check_safety
        from fickling.fickle import Pickled
    except ImportError:
        return False, [], ["fickling is not installed."]
    try:
        result = check_safety(Pickled.load(io.BytesIO(data)))
    except Exception:  # joblib's arrays, or a truncated file: fickling does not report where it stopped
        return False, [], []
    bad = result.severity >= Severity.LIKELY_OVERTLY_MALICIOUS
    first = str(result.to_dict()["analysis"]).partition("\n")[0][:300]
    return bad, [], [f"{label}: fickling: {first}"] if bad else []


def _main(path: str, own: str) -> int:
    from ..sandbox import landlock, limits

    limits.die_with_parent()
    limits.isolate_network()
    landlock.confine([*landlock.interpreter_paths(), Path(path)], [Path(own), Path("/dev/null")])
    limits.apply(dict(_LIMITS))
    try:
        found = _look(Path(path))
    except (MemoryError, RecursionError):
        found = _unknown("The scanners stopped: too large or too deeply nested.")
    sys.stdout.write(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
