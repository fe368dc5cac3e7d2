"""What an operator types, against real servers."""

import os
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from model_service.client import ModelServiceClient
from model_service.config import Settings
from model_service.storage.common.db import Database, now
from model_service.storage.operations.maintenance import Maintenance
from tests import forks

CONTENT = os.urandom(3_000_000)


class CommandLine:
    """``model-service``, as a process of its own over the test's databases."""

    def __init__(self, settings: Settings, **env: str) -> None:
        assert settings.mongodb_url is not None
        self.env = os.environ | {
            "MONGODB_URL": settings.mongodb_url.get_secret_value(),
            "MONGODB_DB": settings.mongodb_db,
            "MODEL_SERVICE_HOME": str(settings.home),
            **env,
        }

    def run(self, *words: str, given: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        argv = ["-m", "model_service.cli", *words]
        return forks.run(
            argv, imported=("model_service.cli", "model_service.operate"), env=self.env, given=given
        )


@pytest.fixture
def cli(settings: Settings) -> CommandLine:
    return CommandLine(settings)


@pytest.fixture
def elsewhere(settings: Settings, database: Database) -> CommandLine:
    """Over an empty database, dropped with the test's own because of its name."""
    name = f"{settings.mongodb_db[:-2]}-2"
    yield CommandLine(settings, MONGODB_DB=name)  # type: ignore[misc]
    database.client.drop_database(name)


def registered(client: ModelServiceClient, name: str = "digits") -> str:
    model_id = client.register_model({"name": name, "algorithm": "convnet"})
    source = Path(os.environ.get("TMPDIR", "/tmp")) / f"{model_id}.bin"
    source.write_bytes(CONTENT)
    client.upload_model(model_id, source)
    source.unlink()
    return model_id


def test_a_backup_is_restored_elsewhere(
    client: ModelServiceClient, cli: CommandLine, elsewhere: CommandLine, tmp_path: Path, database: Database
) -> None:
    model_id = registered(client)
    file = tmp_path / "backup.tar"
    done = cli.run("backup", str(file))
    assert done.returncode == 0, done.stderr
    assert file.stat().st_mode & 0o777 == 0o600
    recorded = Maintenance(database).last("backup")
    assert recorded is not None
    assert now() - recorded["at"] < timedelta(minutes=1)
    restored = elsewhere.run("restore", "-", given=file.read_bytes())
    assert restored.returncode == 0, restored.stderr
    assert b"1 models" in restored.stdout
    whole = elsewhere.run("verify")
    assert (whole.returncode, whole.stdout) == (0, b""), whole
    again = elsewhere.run("restore", str(file))
    assert again.returncode == 1
    assert b"not empty" in again.stderr
    cut = elsewhere.run("restore", "--force", "-", given=file.read_bytes()[:-4096])
    assert cut.returncode == 1
    assert b"invalid_archive" in cut.stderr
    assert model_id.encode() in elsewhere.run("cleanup", "--days", "0", "--status", "active").stdout


def test_a_backup_goes_through_a_pipe(
    client: ModelServiceClient, cli: CommandLine, elsewhere: CommandLine
) -> None:
    registered(client)
    piped = cli.run("backup", "-")
    assert piped.returncode == 0
    assert elsewhere.run("restore", "-", given=piped.stdout).returncode == 0


def test_verify_names_what_is_wrong(client: ModelServiceClient, cli: CommandLine, database: Database) -> None:
    registered(client)
    assert cli.run("verify").returncode == 0
    database.files.update_many({}, {"$set": {"metadata.references": 5}})
    found = cli.run("verify")
    assert found.returncode == 1
    assert b"its reference count is 5, the number of its uses 1" in found.stdout
    repaired = cli.run("verify", "--repair")
    assert (repaired.returncode, b"(repaired)" in repaired.stdout) == (0, True)
    assert cli.run("verify").returncode == 0


def test_cleanup_takes_the_old_of_one_status(
    client: ModelServiceClient, cli: CommandLine, database: Database
) -> None:
    old, young, active = (registered(client, name) for name in ("old", "young", "active"))
    for model_id in (old, young):
        client.update_model(model_id, status="archived")
    long_ago = now() - timedelta(days=100)
    database.models.update_many({"name": {"$in": ["old", "active"]}}, {"$set": {"created_at": long_ago}})
    listed = cli.run("cleanup", "--dry-run")
    assert listed.returncode == 0, listed.stderr
    assert old.encode() in listed.stdout
    assert young.encode() not in listed.stdout
    assert b"1 models, 3.0 MB, would be deleted" in listed.stderr
    assert database.models.count_documents({}) == 3
    assert cli.run("cleanup").returncode == 0
    assert {model["name"] for model in database.models.find()} == {"young", "active"}
    assert database.deleted_models.count_documents({}) == 1
    assert client.get_model(active).status == "active"
    purged = cli.run("cleanup", "--days", "0", "--purge")
    assert b"deleted for good" in purged.stderr
    assert database.deleted_models.count_documents({}) == 1


def test_a_registry_goes_from_one_service_to_another_and_back(
    client: ModelServiceClient, service_url: str, cli: CommandLine, database: Database, tmp_path: Path
) -> None:
    model_id = registered(client)
    file = tmp_path / "registry.tar"
    cli.env["MODEL_SERVICE_URL"] = service_url
    done = cli.run("registry", "export", str(file))
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.glob("*.part")] == []
    client.delete_model(model_id)
    assert client._transport.json("DELETE", f"/api/v1/models/{model_id}?purge=true")["success"]
    assert database.models.count_documents({}) == 0
    done = cli.run("registry", "import", str(file))
    assert done.returncode == 0, done.stderr
    assert b"1 models" in done.stdout
    target = client.download_model(model_id, tmp_path / "model.bin")
    assert target.read_bytes() == CONTENT
    assert b"nothing new" in cli.run("registry", "import", "--on-conflict", "fail", str(file)).stdout
    file.write_bytes(file.read_bytes()[:-5000])
    assert b"invalid_archive" in cli.run("registry", "import", str(file)).stderr


def test_without_a_database_it_says_so(settings: Settings, tmp_path: Path) -> None:
    command = CommandLine(settings, MONGODB_URL="", MODEL_SERVICE_HOME=str(tmp_path / "nowhere"))
    done = command.run("verify")
    assert done.returncode == 2
    assert b"MONGODB_URL is not set" in done.stderr
