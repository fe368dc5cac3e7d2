"""``scripts/compose-init`` writes the secrets once."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from model_service.config import read_settings
from tests.test_docs import ROOT


def compose_init(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [ROOT / "scripts" / "compose-init", *words],
        env=os.environ | {"COMPOSE_DIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (folder / "secrets").iterdir()}


def test_it_writes_every_secret_of_the_compose_file(tmp_path: Path) -> None:
    done = compose_init(tmp_path)
    assert done.returncode == 0, done.stderr
    secrets = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["secrets"]
    of_tls = {"tls_certificate", "tls_key"}
    assert {f"./secrets/{name}" for name in contents(tmp_path)} == {
        secret["file"] for name, secret in secrets.items() if name not in of_tls
    }
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    # Each container has its own user. On the machine, the folder keeps others out. Its owner can change them.
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "secrets").iterdir()} == {0o644}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["secrets"]


def test_no_two_installations_have_the_same_secrets(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder in folders:
        folder.mkdir()
        assert compose_init(folder).returncode == 0
    one, other = map(contents, folders)
    assert not set(one.values()) & set(other.values())
    random = [word for text in one.values() for word in re.findall(r"[0-9a-f]{48,}", text)]
    assert len(set(random)) == 6  # the root's password, the user's and Redis's are in two files or one
    assert len(one["mongodb_keyfile"]) <= 1024  # mongod's limit


def test_the_service_accepts_the_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert compose_init(tmp_path).returncode == 0
    for name in ("api_key", "signing_secret", "mongodb_url", "redis_url"):
        monkeypatch.setenv(f"{name.upper()}_FILE", str(tmp_path / "secrets" / name))
    settings = read_settings(enable_auth=True)
    assert settings.api_key.get_secret_value() == contents(tmp_path)["api_key"]  # type: ignore[union-attr]
    assert settings.mongodb_url.get_secret_value() == contents(tmp_path)["mongodb_url"]  # type: ignore[union-attr]


@pytest.mark.parametrize("words", [(), ("--tls", "models.example")])
def test_it_changes_nothing_that_exists(tmp_path: Path, words: tuple[str, ...]) -> None:
    assert compose_init(tmp_path).returncode == 0
    before = contents(tmp_path)
    again = compose_init(tmp_path, *words)
    assert again.returncode == 1
    assert "secrets exists and was not changed" in again.stderr
    assert len(again.stderr.splitlines()) == 1
    assert contents(tmp_path) == before


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_tls(tmp_path: Path) -> None:
    assert compose_init(tmp_path, "--tls", "models.example").returncode == 0
    certificate = tmp_path / "secrets" / "tls_certificate"
    shown = subprocess.run(
        ["openssl", "x509", "-in", certificate, "-noout", "-ext", "subjectAltName"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "DNS:models.example" in shown.stdout
    settings = dict(line.split("=", 1) for line in (tmp_path / ".env").read_text().splitlines())
    assert settings["PUBLIC_URL"] == "https://models.example"
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "secrets").iterdir()} == {0o644}
    assert settings["BIND_ADDRESS"] == "127.0.0.1"  # nobody reaches the servers past nginx
    (tmp_path / "secrets").rename(tmp_path / "elsewhere")
    assert ".env exists and was not changed" in compose_init(tmp_path, "--tls", "models.example").stderr


@pytest.mark.parametrize("words", [("--force",), ("--tls",)])
def test_a_wrong_option(tmp_path: Path, words: tuple[str, ...]) -> None:
    assert compose_init(tmp_path, *words).returncode != 0
    assert list(tmp_path.iterdir()) == []
