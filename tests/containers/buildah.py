"""Builds the images with buildah, without an engine: chroot isolation, and a base made by debootstrap.

Packages come from the public archives unless the environment names others: ``DEBIAN_MIRROR`` is the archive
of the base, ``PIP_CONFIG_FILE`` has the settings of pip for the builds, and ``BUILD_VOLUMES`` lists the files
and folders of this machine that they need, such as a certificate: ``PATH`` or ``PATH:TARGET``, separated by
spaces.
"""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.test_docs import ROOT

BASE = "localhost/base:bookworm"
NEEDED = ("buildah", "debootstrap")
# What the official image of Python has beside the interpreter.
_PACKAGES = "python3,python3-venv,ca-certificates"
_MIRROR = os.environ.get("DEBIAN_MIRROR", "http://deb.debian.org/debian")
_PIP_SETTINGS = os.environ.get("PIP_CONFIG_FILE")
_VOLUMES = os.environ.get("BUILD_VOLUMES", "").split()


def missing() -> list[str]:
    """What these tests need and this machine or user lacks."""
    found = [name for name in NEEDED if shutil.which(name) is None]
    return found if os.geteuid() == 0 else [*found, "the user root"]


@dataclass(frozen=True)
class Builder:
    """Everything is in ``folder``: images, containers, caches."""

    folder: Path

    def run(self, *words: str, **options: Any) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(self.argv(*words), env=self.env(), check=True, text=True, **options)

    def output(self, *words: str) -> str:
        return self.run(*words, stdout=subprocess.PIPE).stdout.strip()

    def argv(self, *words: str) -> list[str]:
        storage = ["--root", str(self.folder / "root"), "--runroot", str(self.folder / "run")]
        return ["buildah", *storage, *words]

    def env(self) -> dict[str, str]:
        (self.folder / "tmp").mkdir(exist_ok=True)
        return os.environ | {"TMPDIR": str(self.folder / "tmp"), "BUILDAH_ISOLATION": "chroot"}

    def make_base(self) -> None:
        """Debian 12 with Python, as an image."""
        system = self.folder / "debian"
        subprocess.run(
            [
                "debootstrap",
                "--variant=minbase",
                f"--include={_PACKAGES}",
                "bookworm",
                str(system),
                _MIRROR,
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        shutil.rmtree(system / "var/lib/apt/lists")
        (system / "var/lib/apt/lists/partial").mkdir(parents=True)
        shutil.rmtree(system / "var/cache/apt/archives")
        container = self.output("from", "scratch")
        self.run("add", "--quiet", container, str(system), "/", stdout=subprocess.DEVNULL)
        self.run("commit", "--quiet", "--rm", container, BASE, stdout=subprocess.DEVNULL)
        shutil.rmtree(system)

    def build(self, target: str) -> None:
        """Build a target of the Dockerfile. Its layers are kept, since targets share stages."""
        self.run(
            *("build", "--layers", "--format", "docker", "--target", target, "--tag", image(target)),
            *("--build-arg", f"BASE_IMAGE={BASE}", "--build-arg", "VERSION=test", *self.options()),
            *("--ignorefile", str(ROOT / ".dockerignore"), str(ROOT)),
            stdout=(self.folder / f"{target}.log").open("w"),
            stderr=subprocess.STDOUT,
        )

    def options(self) -> list[str]:
        """The options of a build for this machine's index of packages."""
        secret = ["--secret", f"id=pip,src={_PIP_SETTINGS}"] if _PIP_SETTINGS else []
        return secret + [f"--volume={each if ':' in each else f'{each}:{each}'}:ro" for each in _VOLUMES]

    def size_bytes(self, name: str) -> int:
        container = self.output("from", name)
        try:
            done = subprocess.run(
                ["du", "--summarize", "--bytes", self.output("mount", container)],
                capture_output=True,
                text=True,
                check=True,
            )
            return int(done.stdout.split()[0])
        finally:
            self.run("rm", container, stdout=subprocess.DEVNULL)

    def config(self, target: str) -> dict[str, Any]:
        """The image's configuration in Docker's form."""
        found: dict[str, Any] = json.loads(self.output("inspect", image(target)))["Docker"]["config"]
        return found


def image(target: str) -> str:
    return f"localhost/model-service-{target}:test"
