"""The Dockerfile and the locks of its targets."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import lock
from tests.containers.dockerfile import TARGETS, images, instructions
from tests.test_docs import ROOT


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


def test_an_ignored_rule_has_its_reason() -> None:
    comments = re.findall(r"^# (.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    reasons = " ".join(comment for comment in comments if not comment.startswith("hadolint ignore="))
    ignored = {rule for comment in comments for rule in re.findall(r"hadolint ignore=(\S+)", comment)}
    assert ignored <= set(re.findall(r"DL\d+|SC\d+", reasons))


def test_a_build_without_a_target_makes_the_registry() -> None:
    assert list(images())[-1] == "api"
    assert images()["api"].command == ("python", "-m", "model_service.api")


@pytest.mark.parametrize("target", TARGETS)
def test_each_target_has_a_user_a_health_check_and_a_first_process(target: str) -> None:
    image = images()[target]
    assert image.user == "10001:10001"
    assert image.health == ("model-service", "health")
    assert image.entrypoint[0] == "dumb-init"
    assert image.stop_signal == "SIGTERM"
    assert {
        f"org.opencontainers.image.{name}" for name in ("title", "licenses", "version", "revision")
    } <= set(image.labels)


def test_a_listening_image_needs_access_control() -> None:
    """HOST is every address, so the registry ends with one sentence without ENABLE_AUTH."""
    assert images()["api"].env["HOST"] == images()["all"].env["HOST"] == "0.0.0.0"
    assert not [
        name for image in images().values() for name in image.env if "KEY" in name or "ANONYMOUS" in name
    ]


def test_only_the_project_is_in_the_build_context() -> None:
    """The files that COPY needs, and nothing else: no secrets, no .git."""
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        source.partition("/")[0]
        for instruction, rest in instructions()
        if instruction == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    }
    assert kept == copied


def locked(target: str) -> dict[str, str]:
    lines = [
        line
        for line in (ROOT / "requirements" / f"{target}.txt").read_text().splitlines()
        if not line.startswith(("#", "--"))
    ]
    assert all(re.fullmatch(r"[a-z0-9-]+==\S+ --hash=sha256:[0-9a-f]{64}", line) for line in lines)
    return dict(line.partition(" ")[0].split("==") for line in lines)


@pytest.mark.parametrize("target", ["build", "torch", *TARGETS])
def test_a_lock_has_the_tested_versions_of_all_that_its_target_needs(target: str) -> None:
    """Otherwise run scripts/lock."""
    assert {
        name: version.partition("+")[0] for name, version in locked(target).items()
    } == lock.requirements_of(target)


def test_the_locks_name_the_public_index_of_torch_and_no_other_host() -> None:
    for file in (ROOT / "requirements").iterdir():
        hosts = set(re.findall(r"https?://([^/\s]+)", file.read_text()))
        assert hosts == ({"download.pytorch.org"} if file.name == "torch.txt" else set()), file.name
    assert locked("torch")["torch"].endswith("+cpu")


def test_the_registry_has_no_framework() -> None:
    heavy = {
        "torch",
        "numpy",
        "onnx",
        "onnxruntime",
        "openvino",
        "scikit-learn",
        "scipy",
        "transformers",
        "jax",
    }
    assert not heavy & set(locked("api"))
    assert not {"flask", "rq"} & set(locked("serving"))
