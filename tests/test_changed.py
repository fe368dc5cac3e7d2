"""``scripts/test --changed`` runs the tests of what differs."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.changed import ALWAYS, changed_files, select

Git = Callable[..., None]
OF_SERVICES = ["services/keys/test_expiry.py", "services/keys/test_keys.py"]


@pytest.fixture
def git(tmp_path: Path) -> Git:
    def run(*arguments: str) -> None:
        identity = ("-c", "user.name=A", "-c", "user.email=a@example.com")
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True)

    run("init", "--initial-branch", "main")
    return run


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two layers with a module each, and tests of both."""
    files = {
        "model_service/storage/keys/keys.py": "",
        "model_service/storage/keys/hashes.py": "",
        "model_service/services/keys/keys.py": "from model_service.storage.keys import hashes, keys",
        "main.py": "from model_service.app import main",
        "tests/conftest.py": "",
        "tests/api/conftest.py": "",
        "tests/api/test_pages.py": "from tests import makers",
        "tests/makers.py": "",
        "tests/storage/keys/test_keys.py": "",
        "tests/services/keys/test_keys.py": "",
        "tests/services/keys/test_expiry.py": "from model_service.services.keys.keys import expired",
        **dict.fromkeys(ALWAYS, ""),
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ("model_service/storage/keys/keys.py", ["storage/keys/test_keys.py"]),
        (
            "model_service/services/keys/keys.py",
            OF_SERVICES,
        ),
        # No test of its own: those of the module that imports it.
        (
            "model_service/storage/keys/hashes.py",
            OF_SERVICES,
        ),
        ("tests/services/keys/test_keys.py", ["services/keys/test_keys.py"]),
        ("tests/makers.py", ["api/test_pages.py"]),
        ("tests/api/conftest.py", ["api/test_pages.py"]),
        ("docs/api.md", []),
        ("main.py", []),
        ("tests/test_deleted.py", []),
    ],
)
def test_the_tests_of_a_file(tree: Path, changed: str, expected: list[str]) -> None:
    found = set(select([changed], tree)) - set(ALWAYS)
    assert sorted(found) == [f"tests/{name}" for name in expected]


def test_committed_uncommitted_and_new_files_are_changed(tmp_path: Path, git: Git) -> None:
    for name in ("kept.py", "edited.py", "committed.py"):
        (tmp_path / name).write_text("one")
    git("add", ".")
    git("commit", "-m", "one")
    git("switch", "-c", "branch")
    (tmp_path / "committed.py").write_text("two")
    git("commit", "-a", "-m", "two")
    (tmp_path / "edited.py").write_text("two")
    (tmp_path / "new.py").touch()
    assert changed_files(root=tmp_path) == ["committed.py", "edited.py", "new.py"]
    assert changed_files("HEAD", tmp_path) == ["edited.py", "new.py"]
