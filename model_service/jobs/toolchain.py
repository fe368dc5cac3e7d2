"""The toolchain of this worker's converter: available formats, and the versions of the tools.

A format is available if the modules that it needs were imported in a process of the exporters. That takes
seconds for each framework, so a file stores the imported modules, with the digest of all installed packages.
A failure is not stored, since a missing system library may be installed later.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import structlog

log = structlog.get_logger(__name__)

_PROBE_S = 60
_IMPORTS_S = 1800
_FILE = "model-service-imports.json"
# Run by the converter's interpreter. Arguments: digest → modules imported before, as JSON; "import" to import
# the others.
_PROBE = """
import hashlib, json, os, platform, sys
from importlib import metadata
from exporters import hardware, imports, registry
from exporters.base import FAMILIES, LIBRARIES
from exporters.sandbox import limits
limits.die_with_parent()
installed = sorted({f"{found.name}=={found.version}" for found in metadata.distributions()})
decides = json.dumps([platform.python_version(), platform.machine(), installed])
digest = hashlib.sha256(decides.encode()).hexdigest()
imported = set(json.loads(sys.argv[1]).get(digest, ()))
modules = registry.modules()
others = [module for module in modules if module not in imported]
if "import" in sys.argv:
    os.nice(10)
    found = imports.failures(others)
else:
    found = imports.absences(others)
found = dict.fromkeys(modules) | found
formats = {}
for spec in registry.specifications():
    families = dict.fromkeys(FAMILIES[kind] for kind in registry.kinds(spec.name))
    formats[spec.name] = {family: registry.why_unavailable(spec.name, family, found) for family in families}
owners = metadata.packages_distributions()
names = sorted({name for module in modules for name in owners.get(module.partition(".")[0], ())})
print(json.dumps({
    "digest": digest,
    "tools": {"python": platform.python_version()} | {name: metadata.version(name) for name in names},
    "formats": formats,
    "libraries": {library: registry.why_not_loaded(library, found) for library in LIBRARIES},
    "hardware": hardware.label(),
    "complete": imports.NOT_YET not in found.values(),
    "imported": [module for module, reason in found.items() if reason is None],
}))
"""


@dataclass(frozen=True)
class Toolchain:
    """A worker's tools. ``digest``: of all installed packages, so equal digests convert alike.

    ``formats``: format → family of sources → why this worker cannot convert it; None if it can.
    ``libraries``: for ``exporters.base.LIBRARIES``, why this worker cannot load such checkpoints.
    ``complete``: every module was tried; until then, the reasons name the untried modules. ``hardware``: the
    label of this machine, as in the measurements of its exports.
    """

    digest: str
    tools: dict[str, str]
    formats: dict[str, dict[str, str | None]]
    libraries: dict[str, str | None] = field(default_factory=dict)
    complete: bool = True
    hardware: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class ToolchainUnknown(Exception):
    """The toolchain cannot be determined; the message is the reason."""


def find_toolchain(folder: Path, *, importing: bool) -> Toolchain | None:
    """As ``examine_toolchain``; None if it cannot be determined, for the reason in the log."""
    try:
        return examine_toolchain(folder, importing=importing)
    except ToolchainUnknown as exc:
        log.warning("worker.toolchain_unknown", error=str(exc))
        return None


def examine_toolchain(folder: Path, *, importing: bool, imports_s: float = _IMPORTS_S) -> Toolchain:
    """Return the converter's toolchain.

    Args:
        folder: where to store the imported modules if the environment is not writable.
        importing: import modules that are not stored as imported; otherwise report them as not tried yet,
            within seconds.
        imports_s: the time limit of the imports. Their process is killed at its end.

    Raises:
        ToolchainUnknown.
    """
    paths = (Path(sys.prefix) / _FILE, folder / _FILE)
    command = [sys.executable, "-I", "-c", _PROBE, json.dumps(_remembered(paths))]
    try:
        answer = subprocess.run(
            [*command, *(["import"] if importing else [])],
            capture_output=True,
            check=True,
            timeout=imports_s if importing else _PROBE_S,
        )
        found = json.loads(answer.stdout)
        imported = found.pop("imported")
        if importing:
            _remember(paths, {found["digest"]: imported})
        return Toolchain(**found)
    except subprocess.CalledProcessError as exc:
        raise ToolchainUnknown(exc.stderr.decode(errors="replace")[-1000:]) from None
    except subprocess.TimeoutExpired as exc:
        raise ToolchainUnknown(f"no result within {exc.timeout:g} s") from None
    except (OSError, subprocess.SubprocessError, ValueError, TypeError) as exc:
        raise ToolchainUnknown(str(exc)) from None


def _remembered(paths: Iterable[Path]) -> dict[str, Any]:
    for path in paths:
        with suppress(OSError, ValueError):
            found = json.loads(path.read_bytes())
            if isinstance(found, dict):
                return found
    return {}


def _remember(paths: Iterable[Path], imported: Mapping[str, Any]) -> None:
    for path in paths:
        with suppress(OSError), tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            written = Path(scratch) / path.name
            written.write_text(json.dumps(imported))
            written.replace(path)
            return
