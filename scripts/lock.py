"""Writes the locks of the container images; see ``scripts/lock``."""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
LOCKS = ROOT / "requirements"
FORMATS = "requirements-formats.txt"
PINS = ("requirements.txt", FORMATS, "requirements/image.in", "requirements/build.in")
# Target of the Dockerfile → the extras of pyproject.toml that it has.
TARGETS = {
    "api": ("api", "traces"),
    "serving": ("runtimes", "traces"),
    "worker": ("worker", "formats", "tflite", "ultralytics", "traces"),
    "all": ("worker", "formats", "tflite", "ultralytics", "runtimes", "embedded", "traces"),
}
# These have every package of requirements-formats.txt too.
CONVERTING = ("worker", "all")
# The build of torch without CUDA has a local version and its own index, from which nothing else is installed.
TORCH, TORCH_INDEX = "torch", "https://download.pytorch.org/whl/cpu"
HEADER = "# Written by scripts/lock for Python 3.11 on linux/amd64. Install with --no-deps: these are all.\n"


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(files: Iterable[str] = PINS) -> dict[str, str]:
    """Package → version, as the files pin them."""
    found = {}
    for file in files:
        for line in (ROOT / file).read_text().splitlines():
            text = line.partition("#")[0].strip()
            requirement = Requirement(text) if text else None
            if requirement and (requirement.marker is None or requirement.marker.evaluate()):
                (specifier,) = requirement.specifier
                found[normal(requirement.name)] = specifier.version
    return found


def requirements_of(target: str) -> dict[str, str]:
    """Return package → version: the packages of the target's extras, and all that they require but torch."""
    if target == "build":
        return pins(["requirements/build.in"])
    if target == TORCH:
        return {TORCH: pins()[TORCH]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {"": project["dependencies"], **project["optional-dependencies"]}
    wanted = [Requirement(f"model-service[{','.join(TARGETS[target])}]")]
    versions = pins()  # tests/test_environment.py has the reason why a required package has none
    seen: set[tuple[str, str]] = set()
    names = {*pins(["requirements/image.in"]), *(pins([FORMATS]) if target in CONVERTING else ())}
    while wanted:
        requirement = wanted.pop()
        name = normal(requirement.name)
        for extra in ("", *requirement.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            if name == "model-service":
                wanted += _applicable(extras[extra], "")
                continue
            if name not in versions:
                continue
            names.add(name)
            wanted += _applicable(metadata.requires(name) or (), extra)
    return {name: versions[name] for name in sorted(names - {TORCH})}


def _applicable(texts: Iterable[str], extra: str) -> list[Requirement]:
    """Return the requirements for this platform, without those of other extras."""
    found = map(Requirement, texts)
    return [each for each in found if each.marker is None or each.marker.evaluate({"extra": extra})]


def main() -> None:
    for target in ("build", TORCH, *TARGETS):
        packages = requirements_of(target)
        lines = [HEADER, f"--index-url {TORCH_INDEX}\n"] if target == TORCH else [HEADER]
        for name, (version, sha256) in sorted(find_files(target, packages).items()):
            lines.append(f"{name}=={version} --hash=sha256:{sha256}\n")
        (LOCKS / f"{target}.txt").write_text("".join(lines))
        print(f"requirements/{target}.txt: {len(packages)} packages")


def find_files(target: str, packages: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Ask pip for the wheel that it would install for each package, and return its version and sha256."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--no-deps"]
    index, local = (["--index-url", TORCH_INDEX], "+cpu") if target == TORCH else ([], "")
    given = [f"{name}=={version}{local}" for name, version in packages.items()]
    report = subprocess.run(
        [*pip, "--report", "-", "--only-binary", ":all:", *index, *given], stdout=subprocess.PIPE, check=True
    )
    return {
        normal(each["metadata"]["name"]): (
            each["metadata"]["version"],
            each["download_info"]["archive_info"]["hashes"]["sha256"],
        )
        for each in json.loads(report.stdout)["install"]
    }


if __name__ == "__main__":
    main()
