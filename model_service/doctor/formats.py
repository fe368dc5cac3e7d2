"""The export formats that a worker on this machine could produce."""

from collections.abc import Iterator

from model_service.doctor.findings import Finding, Part, Setup, ok, warning
from model_service.jobs.toolchain import ToolchainUnknown, examine_toolchain

TIMEOUT_S = 300
# With the examination before, less than TIMEOUT_S: the imports are killed before the command ends.
_IMPORTS_S = 230


def check(setup: Setup) -> Iterator[Finding]:
    """Import the toolchains in a process of their own, unless a worker has done so since the installation."""
    if Part.WORKER not in setup.parts:
        return
    home = setup.settings.home
    try:
        found = examine_toolchain(home, importing=False)
        if not found.complete:
            found = examine_toolchain(home, importing=True, imports_s=_IMPORTS_S)
    except ToolchainUnknown as exc:
        last = (str(exc).strip().splitlines() or ["no message"])[-1]
        advice = "Install the extra 'worker'. On a slow machine, run this again"
        yield warning("formats", f"the toolchains cannot be examined: {last}. {advice}")
        return
    if all(reason for families in found.formats.values() for reason in families.values()):
        yield warning("formats", "no format can be exported here. For a worker, install the extra 'formats'")
        return
    for name, families in found.formats.items():
        available = [family for family, reason in families.items() if reason is None]
        if available:
            yield ok(f"format-{name}", f"available for {', '.join(available)}")
        else:
            reasons = dict.fromkeys(reason for reason in families.values() if reason)
            yield warning(f"format-{name}", f"not available here: {' '.join(reasons)}")
    for library, reason in found.libraries.items():
        if reason is not None:
            yield warning(f"library-{library}", reason)
