"""The procedures of docs/production.md: restores after a loss, and changes of secrets."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import urllib3
from pymongo import MongoClient
from pymongo.errors import OperationFailure
from redis import Redis
from redis.exceptions import AuthenticationError

from model_service.client import ModelServiceClient, Unauthorized
from model_service.config import Settings
from model_service.embedded import mongo
from model_service.embedded.ports import remembered_port
from model_service.storage.common.db import Database
from model_service.storage.migrations import MIGRATIONS
from tests import processes
from tests.e2e.conftest import free_ports, running
from tests.faulty_servers import end, family, start
from tests.test_connections import answers
from tests.test_docs import ROOT
from tests.waiting import wait_for

PAGE = (ROOT / "docs" / "production.md").read_text()
_KEYS = ("a first key of the administrator", "a second key of the administrator")


def section(title: str, language: str = "bash") -> str:
    """The first block of the page's section."""
    text = PAGE.partition(f"## {title}\n")[2]
    found = re.search(rf"^```{language}\n(.+?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def bash(lines: str, env: Mapping[str, str], cwd: Path) -> "subprocess.CompletedProcess[str]":
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("MONGODB_", "REDIS_"))
    }
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", lines],
        env={**inherited, **env, "PATH": path},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=180,
    )


def test_all_data_is_lost_and_restored(tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    (tmp_path / "model.bin").write_bytes(content)
    lost, new = tmp_path / "lost", tmp_path / "new"
    lost.mkdir()
    new.mkdir()
    with running(lost, EXPORT_PREWARM="false") as stack, ModelServiceClient(stack.report["api"]) as client:
        model = client.register_model({"name": "digits", "algorithm": "convnet"})
        client.upload_model(model, tmp_path / "model.bin")
        saved = bash(section("Backup and restore drill"), {"MODEL_SERVICE_HOME": str(lost)}, tmp_path)
        assert saved.returncode == 0, saved.stderr
    shutil.rmtree(lost)
    (written,) = tmp_path.glob("models-*.tar")
    archive = written.rename(tmp_path / "models.tar")

    drill = bash(f"{ROOT}/scripts/restore-drill models.tar", {"MONGODB_URL": "mongodb://nowhere/"}, tmp_path)
    assert drill.returncode == 0, drill.stderr
    assert "Restored: " in drill.stdout
    assert "Everything is whole." in drill.stderr
    (tmp_path / "cut.tar").write_bytes(archive.read_bytes()[:-4096])
    assert bash(f"{ROOT}/scripts/restore-drill cut.tar", {}, tmp_path).returncode == 1

    with running(new, EXPORT_PREWARM="false") as stack, ModelServiceClient(stack.report["api"]) as client:
        lines = "model-service restore models.tar\nmodel-service verify\n"
        assert lines in PAGE
        restored = bash(lines, {"MODEL_SERVICE_HOME": str(new)}, tmp_path)
        assert restored.returncode == 0, restored.stderr
        back = client.download_model(model, tmp_path / "back.bin")
        assert hashlib.sha256(back.read_bytes()).digest() == hashlib.sha256(content).digest()


def test_the_password_of_mongodb_is_changed_without_a_gap(secured: str, tmp_path: Path) -> None:
    hosts = secured.partition("/")[0]
    lines = section("MongoDB's password").replace("db1.example.com:27017,db2.example.com:27017", hosts)
    lines = lines.replace("db1.example.com:27017", hosts).replace(
        "replicaSet=rs0", "replicaSet=model-service"
    )
    lines = lines.replace("admin:PASSWORD", "administrator:secret").replace(":PASSWORD", ":another")
    done = bash(lines, {}, tmp_path)
    assert done.returncode == 0, done.stderr
    url = f"mongodb://model-service-2:another@{secured}"
    with (
        MongoClient[dict[str, object]](url) as new,
        MongoClient[dict[str, object]](f"mongodb://writer:secret@{secured}") as old,
        MongoClient[dict[str, object]](f"mongodb://administrator:secret@{secured}") as administrator,
    ):
        for client in (new, old):  # both, until the old one is removed
            client["tensorfleet"]["rotation"].insert_one({})
        administrator.admin.command("dropUser", "model-service-2")
        with pytest.raises(OperationFailure):
            new["tensorfleet"]["rotation"].insert_one({})


def test_mongodb_reads_two_keys(tmp_path: Path) -> None:
    key = tmp_path / "mongodb.key"
    key.write_text("a" * 32 + "\n")
    done = bash(section("MongoDB's key file").replace("/etc/mongodb.key", str(key)), {}, tmp_path)
    assert done.returncode == 0, done.stderr
    keys = tmp_path / "mongodb.keys"
    keys.chmod(0o400)
    with family(tmp_path) as run:
        port = remembered_port(tmp_path / "port")
        argv = mongo.argv(tmp_path / "mongodb", port, 0.25)
        member = start(run, tmp_path, argv)
        wait_for(lambda: mongo.is_primary(port), "a primary")
        end(run, member)
        start(run, tmp_path, [*argv, "--keyFile", str(keys)])
        wait_for(lambda: mongo.is_primary(port), "a primary again")


def test_redis_accepts_two_passwords(locked_redis: str) -> None:
    def client(password: str) -> "Redis[bytes]":
        return Redis.from_url(f"redis://:{password}@{locked_redis}/0")

    first = section("Redis' password")
    (words,) = re.findall(r"(ACL SETUSER default) '>NEW_PASSWORD'", first)
    assert f"{words} '<OLD_PASSWORD'" in PAGE
    with client("secret") as old, client("another") as new, client("another") as left:
        old.execute_command(*words.split(), ">another")
        assert old.ping()
        assert new.ping()
        new.execute_command(*words.split(), "<another")  # as for the old one, which other tests need
        with pytest.raises(AuthenticationError):
            left.ping()


@pytest.mark.parametrize("configured", [True, False], ids=["SIGNING_SECRET", "generated"])
def test_the_secrets_of_the_registry(
    configured: bool, settings: Settings, database: Database, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    secrets = [{"signing_secret": letter * 40} if configured else {} for letter in ("k1", "q2")]

    def registry(number: int) -> AbstractContextManager[object]:
        return processes.running(
            "model_service.api",
            settings,
            tmp_path / f"log{number}",
            port=port,
            enable_auth=True,
            api_key=_KEYS[number],
            **secrets[number],
        )

    model, signed = "", ""
    for number in (0, 1):
        with registry(number):
            wait_for(lambda: answers(port), "the registry", deadline_s=60)
            with ModelServiceClient(url, api_key=_KEYS[number]) as client:
                if number == 0:
                    model = client.register_model({"name": "digits", "algorithm": "convnet"})
                    (tmp_path / "model.bin").write_bytes(b"content")
                    client.upload_model(model, tmp_path / "model.bin")
                    signed = client.presign_file(model)
                    assert status_of(signed) == 200
                    if not configured:
                        assert database.secrets.delete_one({"_id": "signing"}).deleted_count == 1
                    continue
                assert client.get_model(model)["name"] == "digits"
                assert status_of(signed) == 403
            with ModelServiceClient(url, api_key=_KEYS[0]) as former, pytest.raises(Unauthorized):
                former.get_model(model)


def status_of(url: str) -> int:
    return urllib3.request("GET", url, retries=False, timeout=60).status


def test_every_schema_version_is_listed() -> None:
    listed = re.findall(r"^\| (\d+) \| (.+) \|$", PAGE, re.MULTILINE)
    assert listed == [(str(migration.version), migration.name) for migration in MIGRATIONS]
