"""Edge packages: the zip of an export, with code that runs it, for a phone or a Linux board.

    ios, android, both                            linux-arm64
    ├── model.tflite, model.mlpackage …           ├── model.onnx …
    ├── labels.txt, metadata.json                 ├── labels.txt, metadata.json
    ├── fidelity.json, golden.npz …               ├── fidelity.json, golden.npz …
    ├── sample_code/android/                      ├── runtimes/cpp/
    │   ├── ModelWrapper.kt, Processing.kt        ├── runtimes/python/
    │   ├── MainActivity.kt, AndroidManifest.xml  ├── CMakeLists.txt
    │   └── build.gradle, settings.gradle         ├── README.md
    ├── sample_code/ios/                          └── manifest.json
    │   ├── ModelWrapper.swift, Processing.swift
    │   ├── ViewController.swift
    │   └── Package.swift (or the podspec)
    ├── README.md
    └── manifest.json

``both`` may be made of two exports. A file that differs between them is in ``android/`` and ``ios/``; then
``metadata.json`` of the root names the two descriptions.
"""

from collections.abc import Mapping, Sequence, Set
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from ..package import METADATA, README
from ..wrappers.rendering import render
from . import archive, summary
from .errors import DeliveryError

Target = Literal["ios", "android", "both", "linux-arm64"]
PLATFORMS: Mapping[str, tuple[str, ...]] = {
    "ios": ("ios",),
    "android": ("android",),
    "both": ("android", "ios"),
    "linux-arm64": ("linux-arm64",),
}
_LINUX = "linux-arm64"
_LANGUAGES = {"ios": "swift", "android": "kotlin", _LINUX: "cpp"}
_TITLES = {"ios": "iOS", "android": "Android", _LINUX: "a Linux board"}
_NAMES = {"swift": "Swift", "kotlin": "Kotlin", "cpp": "C++"}


@dataclass(frozen=True)
class _Part:
    """The part of one platform. ``split``: the files that another part has with a different content."""

    platform: str
    package: archive.Package
    split: Set[str]

    @property
    def folder(self) -> str:
        """Return the folder of the artefact, with a slash, or nothing. Its files stay together."""
        return f"{self.platform}/" if self.split & set(self.package.artefact) else ""

    @property
    def language(self) -> str:
        return _LANGUAGES[self.platform]

    @property
    def sample(self) -> str:
        return f"sample_code/{self.platform}"

    def target(self, name: str) -> str:
        """Return the path in the zip of a file of the package."""
        if name in self.package.artefact:
            return self.folder + name
        return f"{self.platform}/{name}" if name in self.split else name


def write(output: Path, target: Target, packages: Mapping[str, Path]) -> None:
    """Write the zip of an edge package.

    Args:
        output: the zip to write. On an error, nothing is left there.
        target: what the zip is for.
        packages: platform (``ios``, ``android``, ``linux-arm64``) → zip of its export package. Two platforms
            may have the same one.

    Raises:
        DeliveryError: a platform has no package, or a package is damaged, failed its comparison, or has no
            wrapper in the platform's language.
    """
    if target not in PLATFORMS:
        raise DeliveryError(f"{target!r} is not a target. Choose one of {', '.join(PLATFORMS)}.")
    platforms = PLATFORMS[target]
    if missing := [platform for platform in platforms if platform not in packages]:
        raise DeliveryError(f"The target {target} needs an export for {missing[0]}.")
    with ExitStack() as stack:
        opened = {name: stack.enter_context(archive.opened(packages[name])) for name in platforms}
        for platform, package in opened.items():
            _check(platform, package)
        writer = stack.enter_context(archive.written(output))
        if target == _LINUX:
            _write_board(writer, opened[_LINUX])
        else:
            _write_phones(writer, opened)


def _check(platform: str, package: archive.Package) -> None:
    language = _LANGUAGES[platform]
    if language not in package.wrappers:
        reasons = package.metadata.get("runtime_wrappers_unavailable") or {}
        raise DeliveryError(
            f"An edge package for {_TITLES[platform]} needs an export with a {_NAMES[language]} wrapper, and "
            f"the format {package.format} of this one has none. {reasons.get(language, '')}".strip()
        )


def _write_board(writer: archive.Writer, package: archive.Package) -> None:
    for name in (*package.outside_runtimes(), *package.runtime("cpp"), *package.runtime("python")):
        writer.copy(package, name)
    writer.text("CMakeLists.txt", render("linux/CMakeLists.txt.jinja", {}))
    values = {
        "summary": summary.of_opened(package, ("python", "cpp")),
        "package": package,
        "executed": package.executed,
    }
    writer.text(README, render("linux/README.md.jinja", values))


def _write_phones(writer: archive.Writer, opened: Mapping[str, archive.Package]) -> None:
    split = _differing(list(opened.values()))
    parts = [_Part(platform, package, split) for platform, package in opened.items()]
    done: set[str] = set()
    for part in parts:
        for name in part.package.outside_runtimes():
            target = part.target(name)
            if target not in done:
                writer.copy(part.package, name, target)
                done.add(target)
        _write_sample(writer, part)
    if METADATA in split:
        writer.json(METADATA, {"platforms": {part.platform: f"{part.platform}/{METADATA}" for part in parts}})
    writer.text(README, render("phones/README.md.jinja", {"summaries": _summaries(parts), "parts": parts}))


def _differing(packages: Sequence[archive.Package]) -> set[str]:
    """Return the names of files that two packages have with different contents."""
    if len(packages) < 2:
        return set()
    first, second = packages
    return {
        name
        for name in first.outside_runtimes()
        if name in second and first.digests[name] != second.digests[name]
    }


def _write_sample(writer: archive.Writer, part: _Part) -> None:
    package = part.package
    kept = [name for name in package.runtime(part.language) if not name.endswith(".gradle")]
    for name in kept:
        writer.copy(package, name, f"{part.sample}/{PurePosixPath(name).name}")
    declared = package.metadata
    values = {
        "format": package.format,
        "versions": package.fidelity.get("tools", {}),
        "files": package.artefact,
        "folder": part.folder,
        "inputs": declared["input_specs"],
        "shapes": declared["example_shapes"],
        "predicts_images": bool("format" in (declared["preprocessing"] or {}) and declared["postprocessing"]),
    }
    templates = {
        "android": ("MainActivity.kt", "AndroidManifest.xml", "build.gradle", "settings.gradle"),
        "ios": ("ViewController.swift",),
    }
    for name in templates[part.platform]:
        writer.text(f"{part.sample}/{name}", render(f"{part.platform}/{name}.jinja", values))


def _summaries(parts: Sequence[_Part]) -> list[str]:
    """Return one summary of each export; of one, if both platforms have the same."""
    folders = {part.language: part.sample for part in parts}
    if len(parts) == 2 and parts[0].package.digests == parts[1].package.digests:
        return [summary.of_opened(parts[0].package, [part.language for part in parts], folders)]
    return [summary.of_opened(part.package, [part.language], folders) for part in parts]
