"""What scanners say of an uploaded file, for people to read. It opens no gate and closes none.

Lists of bad names are bypassed again and again (picklescan#50, fickling#190), so what is loaded is decided
where it is loaded. A finding is of the first part of a file only, and made by a child process with limits of
its own: the scanners disassemble what may be made to keep them busy.
"""

import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..errors import ExportError
from .boosters import is_lightgbm, is_xgboost
from .compressed import compression, open_bounded
from .contents import looks_like_pickle

SCANNERS = ("picklescan", "fickling")
_TIMEOUT_S = 20
_LIMITS = {"memory_bytes": 2 << 30, "cpu_s": 10}
# A process with a second thread, as numpy starts them, can neither leave the network nor be confined.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
_READ_BYTES = 8 << 20  # of one pickle
_TOTAL_BYTES = 32 << 20  # of all pickles in an archive
_MEMBERS = 2_000
_GLOBALS = 500
_ISSUES = 50
_JOBLIB = "joblib.numpy_pickle.NumpyArrayWrapper"


def scan(path: Path) -> dict[str, Any]:
    """``{"format", "safe", "globals", "issues", "scanners"}``; never raises for what the file is.

    ``safe``: False: a scanner finds code that would do harm. True: there is no pickle in it, or it names
    nothing but what the gates know as data. None: nobody can say; it may be an honest class of somebody's
    own.
    """
    finding = _finding(_format(path))
    try:
        with tempfile.TemporaryDirectory(prefix="scan-") as own:
            done = subprocess.run(
                [sys.executable, "-m", "exporters.sources.scan", str(path.resolve()), own],
                capture_output=True,
                timeout=_TIMEOUT_S,
                check=False,
                cwd=Path(__file__).parents[2],
                # Nothing of ours: the environment of a service has its secrets.
                env={"LANG": "C.UTF-8", "HOME": own, "TMPDIR": own, **_ONE_THREAD},
            )
        found: dict[str, Any] = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        found = {"safe": None, "issues": [f"The scanners were not done after {_TIMEOUT_S} s."]}
    except (OSError, ValueError):
        found = {"safe": None, "issues": ["The scanners ended without an answer: too large or malformed."]}
    return finding | found


def _finding(kind: str | None) -> dict[str, Any]:
    return {"format": kind, "safe": None, "globals": [], "issues": [], "scanners": _versions()}


def _versions() -> dict[str, str]:
    found = {}
    for name in SCANNERS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _format(path: Path) -> str | None:
    """The kind of checkpoint, by the first bytes and names in it; None for what is none."""
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError:
        return None
    if looks_like_pickle(head):
        return "pickle"
    if zipfile.is_zipfile(path):
        return _archive_format(path)
    if is_xgboost(head):
        return "xgboost"
    if is_lightgbm(head):
        return "lightgbm"
    if head[8:9] == b"{":
        return "safetensors"
    if head[:6] == b"\x93NUMPY":
        return "numpy"
    packed = compression(head)
    return f"pickle, compressed with {packed}" if packed else None


def _archive_format(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.rpartition("/")[2] for name in archive.namelist()}
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return "zip, damaged"
    for part, kind in (
        ("schema.json", "skops"),
        ("archive_format", "pt2"),
        ("constants.pkl", "torchscript"),
        ("data.pkl", "torch"),
    ):
        if part in names:
            return kind
    return "zip"


def _look(path: Path) -> dict[str, Any]:
    """In the child: what the advisors say of every pickle in the file."""
    names: dict[str, None] = {}
    issues: list[str] = []
    harmful, whole = False, True
    for label, data, complete in _pickles(path, issues):
        whole = whole and complete
        if not complete:
            issues.append(f"{label}: only its first {len(data):,} bytes were looked at.")
        for advise in (_picklescan, _fickling):
            bad, found, said = advise(label, data, complete)
            harmful = harmful or bad
            names.update(dict.fromkeys(found))
            issues += said
    if _JOBLIB in names:
        issues.append(
            "Arrays of joblib stand between the instructions: what follows the first was not looked at."
        )
    known = all(map(_is_data, names)) and whole and not issues
    safe = False if harmful else True if known else None
    return {
        "safe": safe,
        "globals": sorted(names)[:_GLOBALS],
        "issues": list(dict.fromkeys(issues))[:_ISSUES],
    }


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
    """(name, content, whether it is all of it) of everything in the file that looks like a pickle."""
    if not zipfile.is_zipfile(path):
        data, complete = _unpacked(path, issues)
        if looks_like_pickle(data[:4096]):
            yield path.name, data, complete
        elif data[:6] == b"\x93NUMPY" and b"|O" in data[:256]:
            start = data.find(b"\x80", 10)
            yield path.name, data[start:], complete
        return
    left = _TOTAL_BYTES
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len(members) > _MEMBERS:
                issues.append(f"Only the first {_MEMBERS:,} of {len(members):,} parts were looked at.")
            for member in members[:_MEMBERS]:
                with archive.open(member) as part:
                    data = part.read(4096)
                    if not (looks_like_pickle(data) or member.filename.lower().endswith(".pkl")):
                        continue
                    data += part.read(min(_READ_BYTES, left))
                    left -= len(data)
                    yield member.filename, data, not part.read(1)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError, EOFError) as exc:
        issues.append(f"The archive is damaged: {str(exc)[:100]}")


def _unpacked(path: Path, issues: list[str]) -> tuple[bytes, bool]:
    try:
        with open_bounded(path, _READ_BYTES * 2) as file:
            data = file.read(_READ_BYTES)
            return data, not file.read(1)
    except (ExportError, OSError, EOFError, ValueError, ImportError) as exc:
        issues.append(f"It cannot be unpacked: {str(exc)[:100]}")
    except Exception as exc:  # zlib's and lzma's own errors
        issues.append(f"It cannot be unpacked: {type(exc).__name__}")
    return b"", False


def _picklescan(label: str, data: bytes, complete: bool) -> tuple[bool, list[str], list[str]]:
    import io
    import logging

    try:
        from picklescan.scanner import SafetyLevel, scan_pickle_bytes
    except ImportError:
        return False, [], ["picklescan is not installed."]
    logging.disable(logging.CRITICAL)
    try:
        result = scan_pickle_bytes(io.BytesIO(data), label)
    except Exception as exc:
        return False, [], [f"{label}: picklescan does not understand it ({type(exc).__name__})."]
    found = [f"{one.module}.{one.name}" for one in result.globals]
    bad = [f"{one.module}.{one.name}" for one in result.globals if one.safety == SafetyLevel.Dangerous]
    said = [f"{label}: picklescan calls {name} dangerous." for name in bad]
    if result.scan_err and complete and _JOBLIB not in found:
        said.append(f"{label}: picklescan cannot read it to its end.")
    return bool(bad), found, said


def _fickling(label: str, data: bytes, complete: bool) -> tuple[bool, list[str], list[str]]:
    import io

    try:
        from fickling.analysis import Severity, check_safety
        from fickling.fickle import Pickled
    except ImportError:
        return False, [], ["fickling is not installed."]
    try:
        result = check_safety(Pickled.load(io.BytesIO(data)))
    except Exception:  # joblib's arrays, or a cut: fickling has no word for where it stopped
        return False, [], []
    bad = result.severity >= Severity.LIKELY_OVERTLY_MALICIOUS
    first = str(result.to_dict()["analysis"]).partition("\n")[0][:300]
    return bad, [], [f"{label}: fickling: {first}"] if bad else []


def _main(path: str, own: str) -> int:
    from .. import landlock, limits

    limits.die_with_parent()
    limits.isolate_network()
    landlock.confine([*landlock.interpreter_paths(), Path(path)], [Path(own), Path("/dev/null")])
    limits.apply(dict(_LIMITS))
    try:
        found = _look(Path(path))
    except (MemoryError, RecursionError):
        found = {"safe": None, "issues": ["The scanners gave up: too large or too deep."]}
    sys.stdout.write(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
