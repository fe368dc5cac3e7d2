"""The limits of this machine or container: open files and memory."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path

from model_service.doctor.findings import Finding, Part, Setup, ok, size, warning
from model_service.server import MOST_OPEN_FILES

_BESIDE_AN_EXPORT = 2**30  # what a worker needs beside EXPORT_MEMORY


def check(setup: Setup) -> Iterator[Finding]:
    yield _open_files()
    settings = setup.settings
    memory = memory_bytes()
    needs = {}
    if Part.WORKER in setup.parts:
        needs["EXPORT_MEMORY"] = settings.export_memory + _BESIDE_AN_EXPORT, "and 1 GiB"
    if Part.SERVING in setup.parts:
        needs["INFERENCE_MEMORY"] = settings.inference_memory, "for each model host"
    lacking = {name: need for name, need in needs.items() if need[0] > memory}
    for name, (needed, purpose) in lacking.items():
        yield warning(
            "memory",
            f"{size(memory)} are available here, and {name} {purpose} is {size(needed)}: the kernel may "
            f"end the process first. Lower {name}, or raise the memory limit",
        )
    if not lacking:
        enough = " and ".join(needs)
        yield ok("memory", f"{size(memory)} are available here{f', enough for {enough}' if needs else ''}")


def _open_files() -> Finding:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < MOST_OPEN_FILES:
        return warning(
            "open-files",
            f"the hard limit is {hard:,}, so that a process accepts fewer connections. Set it to "
            f"{MOST_OPEN_FILES:,} or more (LimitNOFILE of systemd, ulimits of a container)",
        )
    return ok("open-files", f"a process may open {MOST_OPEN_FILES:,} files or more")


def memory_bytes(root: Path = Path("/")) -> int:
    """Return the smallest memory limit of this process's control groups (version 1 or 2), and of the machine.

    ``root``: where ``proc`` and ``sys`` are.
    """
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    groups = root / "sys" / "fs" / "cgroup"
    try:
        lines = (root / "proc" / "self" / "cgroup").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top, name = groups, "memory.max"
        elif "memory" in controllers.split(","):
            top, name = groups / "memory", "memory.limit_in_bytes"
        else:
            continue
        inner = Path(path.lstrip("/"))
        for folder in (inner, *inner.parents):  # a container sees its own group as the top
            limits += _limit(top / folder / name)
    return min(limits)


def _limit(file: Path) -> list[int]:
    try:
        return [int(file.read_text())]
    except (OSError, ValueError):  # no such group here, or "max"
        return []
