"""What this worker's converter can make, and with which versions of which tools."""

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import Any

import structlog

log = structlog.get_logger(__name__)

_PROBE_S = 60
# In the converter's interpreter, which imports no framework for this.
_PROBE = """
import hashlib, json, platform
from importlib import metadata
from exporters import registry
from exporters.base import FAMILIES
formats, needed = {}, set()
for spec in registry.specifications():
    families = dict.fromkeys(FAMILIES[kind] for kind in registry.kinds(spec.name))
    formats[spec.name] = {family: registry.why_unavailable(spec.name, family) for family in families}
    needed |= set(registry.requirements(spec.name))
owners = metadata.packages_distributions()
names = sorted({name for module in needed for name in owners.get(module.partition(".")[0], ())})
tools = {"python": platform.python_version()} | {name: metadata.version(name) for name in names}
installed = sorted({f"{found.name}=={found.version}" for found in metadata.distributions()})
digest = hashlib.sha256(json.dumps([platform.python_version(), platform.machine(), installed]).encode())
print(json.dumps({"digest": digest.hexdigest(), "tools": tools, "formats": formats}))
"""


@dataclass(frozen=True)
class Toolchain:
    """``digest``: of every package that is installed, so that equal ones convert alike.

    ``formats``: format → family of sources → why this worker cannot make it; None where it can.
    """

    digest: str
    tools: dict[str, str]
    formats: dict[str, dict[str, str | None]]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def find_toolchain() -> Toolchain | None:
    """None where the exporters cannot be asked; the log says why. Nothing is reused then."""
    try:
        answer = subprocess.run(
            [sys.executable, "-I", "-c", _PROBE], capture_output=True, check=True, timeout=_PROBE_S
        )
        return Toolchain(**json.loads(answer.stdout))
    except subprocess.CalledProcessError as exc:
        log.warning("worker.toolchain_unknown", error=exc.stderr.decode(errors="replace")[-1000:])
    except (OSError, subprocess.SubprocessError, ValueError, TypeError) as exc:
        log.warning("worker.toolchain_unknown", error=str(exc))
    return None
