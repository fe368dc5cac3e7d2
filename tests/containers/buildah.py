"""Builds the images with buildah, without an engine: chroot isolation, and a base made by debootstrap."""

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
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def missing() -> list[str]:
    return [name for name in NEEDED if shutil.which(name) is None]


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
        return ["buildah", *storage, "--storage-driver", "vfs", *words]

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
                _mirror(),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        shutil.rmtree(system / "var/lib/apt/lists")
        (system / "var/lib/apt/lists/partial").mkdir(parents=True)
        shutil.rmtree(system / "var/cache/apt/archives")
        (system / "etc/apt/apt.conf.d/99dates").write_text(_apt_dates())
        container = self.output("from", "scratch")
        self.run("add", "--quiet", container, str(system), "/", stdout=subprocess.DEVNULL)
        self.run("commit", "--quiet", "--rm", container, BASE, stdout=subprocess.DEVNULL)
        shutil.rmtree(system)

    def build(self, target: str) -> None:
        """Build a target of the Dockerfile, with pip's settings of this machine as the secret."""
        settings = self.folder / "pip.conf"
        settings.write_text(_pip_settings())
        volumes = [
            f"--volume={path}:{path}:ro" for path in (*_local_indexes(), _CERTIFICATES) if path.exists()
        ]
        self.run(
            *("build", "--format", "docker", "--build-arg", f"BASE_IMAGE={BASE}", "--target", target),
            *("--secret", f"id=pip,src={settings}", *volumes, "--tag", image(target)),
            *("--build-arg", "VERSION=test", "--ignorefile", str(ROOT / ".dockerignore"), str(ROOT)),
            stdout=(self.folder / f"{target}.log").open("w"),
            stderr=subprocess.STDOUT,
        )

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


def _mirror() -> str:
    """The archive of Debian that this machine's apt uses."""
    wanted = ("--format", "$(REPO_URI)", "Created-By: Packages", "Codename: bookworm", "Component: main")
    done = subprocess.run(["apt-get", "indextargets", *wanted], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[0]


def _apt_dates() -> str:
    """The settings of this machine's apt for the age of its archive."""
    done = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("Acquire::Check-")]
    return "\n".join([*lines, ""])


def _pip_settings() -> str:
    """This machine's settings of pip as one file. A container has no other settings of it."""
    done = subprocess.run(
        ["python3", "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    )
    found: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        name, _, value = line.partition("=")
        key = name.rpartition(".")[2]
        if key != "constraint" and value.strip("'") not in found.get(key, []):
            found.setdefault(key, []).append(value.strip("'"))
    return "[global]\n" + "".join(f"{key} = {' '.join(values)}\n" for key, values in found.items())


def _local_indexes() -> list[Path]:
    """The folders that pip's settings name. The pages of an index link to files beside it."""
    words = [Path(word.removeprefix("file://")) for word in _pip_settings().split()]
    folders = [path for path in words if path.is_absolute() and path.is_dir()]
    return [path.parent if path.name == "simple" else path for path in folders]
