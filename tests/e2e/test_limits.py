"""With ENABLE_AUTH and the default limits: every command of the command line, and a folder of 1,000 files."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
import urllib3
from typer.testing import CliRunner

from model_service.cli.app import app
from model_service.client import ClientError
from tests.api.people import PASSWORD, ROOT_KEY
from tests.e2e.conftest import Stack, running
from tests.exposition import samples
from tests.factories import scaling_program
from tests.receiver import Receiver
from tests.waiting import wait_for


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("secured")
    changes = {"ENABLE_AUTH": "true", "API_KEY": ROOT_KEY, "WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8"}
    with running(folder, **changes) as stack:
        yield stack


class Shell:
    """Runs commands in this process as an administrator, and notes which."""

    def __init__(self, stack: Stack) -> None:
        self.ran: set[str] = set()
        self._env = {"MODEL_SERVICE_URL": stack.report["api"], "MODEL_SERVICE_API_KEY": ROOT_KEY}

    def __call__(self, command: str, *given: str, code: str | None = None, answer: str = "") -> Any:
        """The command's JSON, or its text; with ``code``, it ends with that error of the service."""
        self.ran.add(command)
        done = CliRunner().invoke(app, [*command.split(), *given], env=self._env, input=answer)
        if code is not None:
            assert isinstance(done.exception, ClientError), done.output
            assert done.exception.code == code
            return None
        assert done.exit_code == 0, f"{command} {given}: {done.output} {done.exception!r}"
        return json.loads(done.stdout) if "--json" in given else done.stdout


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    for name, each in group.commands.items():
        if hasattr(each, "commands"):
            yield from commands(each, (*path, name))
        else:
            yield " ".join((*path, name))


def refused_requests(stack: Stack) -> list[str]:
    """The samples of requests that a limit refused."""
    metrics = urllib3.request("GET", f"{stack.report['api']}/metrics").data.decode()
    return [series for series in samples(metrics) if 'status="429"' in series]


def use_people(run: Shell) -> None:
    run("version")
    run("namespaces")
    twice = f"{PASSWORD}\n"
    run("users create", "ada", "--role", "writer", "--password-stdin", answer=twice)
    run("users list")
    run("users get", "ada")
    run("users update", "ada", "--role", "reader")
    token = run("login", "ada", "--password-stdin", answer=twice)
    assert token is not None
    run("whoami")
    new = f"another {PASSWORD}\n"
    run("users password", code="forbidden", answer=f"{PASSWORD}\n{new}{new}")  # a key has none
    run("logout")
    run("users delete", "ada")
    key = run("keys create", "ci", "--scope", "read", "--json")
    run("keys list")
    key = run("keys rotate", key["id"], "--json")
    run("keys revoke", key["id"])
    run("audit")


def use_webhooks(run: Shell) -> None:
    run("webhooks create", "https://10.0.0.1/", code="invalid_field")
    with Receiver() as receiver:
        webhook = run("webhooks create", receiver.url, "--event", "version.*", "--json")["id"]
        run("webhooks list")
        run("webhooks show", webhook)
        run("webhooks update", webhook, "--description", "x")
        run("webhooks rotate", webhook)
        run("webhooks test", webhook)
        wait_for(lambda: receiver.received, "the event")
        delivery = run("webhooks deliveries", webhook, "--json")["deliveries"][0]["id"]
        run("webhooks resend", webhook, delivery)
        run("webhooks delete", webhook)


def use_models(run: Shell, program: Path, folder: Path) -> str:
    model = run("models register", "digits", "scaling", "--file", str(program), "--json")["id"]
    run("models upload", model, str(program))
    run("models get", model)
    run("models show", model)
    run("models update", model, "--description", "x")
    run("models list")
    run("models search", "digits")
    run("models download", model, str(folder / "back.pt2"))
    run("models presign", model)
    run("models files list", model)
    run("models files put", model, str(program), "--path", "more/scale.pt2")
    run("models files get", model, "more/scale.pt2", str(folder / "scale.pt2"))
    run("models files get-all", model, str(folder / "all"))
    run("models files zip", model, str(folder / "all.zip"))
    run("models files delete", model, "more/scale.pt2")
    (gone,) = run("models files deleted", model, "--json")["files"]
    run("models files restore", model, gone["id"])
    run("models files delete", model, "more/scale.pt2")
    run("models alias set", model, "production")
    run("models alias list", "digits")
    run("models alias remove", model, "production")
    run("models alias history", "digits", "production")
    run("models gates set", "digits", "production", "--max-p99-ms", "1000")
    run("models gates list", "digits")
    run("models alias set", model, "production", code="gate_refused")
    run("models gates remove", "digits", "production")
    run("gate", model, "production")
    run("models approve", model, "production", code="conflict")  # API_KEY is no user
    run("models approvals", model)
    run("models withdraw-approval", model, "production", code="conflict")
    run("models lineage", model)
    other = run("models new-version", model, "--json")["id"]
    run("models compare", model, other)
    run("models delete", other)
    run("models deleted")
    run("models restore", other)
    run("statistics")
    return str(model)


def use_datasets_and_training(run: Shell, program: Path, folder: Path) -> None:
    data = run("datasets register", "rows", "--format", "npz", "--purpose", "training", "--json")["id"]
    run("datasets upload", data, str(program))
    (folder / "changed").mkdir()
    changed = folder / "changed" / program.name
    changed.write_bytes(b"other rows")
    run("datasets upload", data, str(changed), "--replace")
    (gone,) = run("datasets deleted-files", data, "--json")["files"]
    run("datasets restore-file", data, gone["id"], "--replace")
    run("datasets list")
    run("datasets get", data)
    run("datasets update", data, "--description", "x")
    run("datasets files", data)
    run("datasets download", data, str(folder / "rows"))
    run("datasets usage", data)
    run("datasets delete", data)
    job = run("training create", "run", "--algorithm", "cnn", "--json")["id"]
    run("training list")
    run("training get", job)
    run("training update", job, "--description", "x")
    run("training delete", job)


def use_exports(run: Shell, model: str, folder: Path) -> str:
    run("exports capabilities")
    job = run("exports create", model, "--wait", "--json")["id"]
    run("exports list")
    run("exports get", job)
    run("exports wait", job)
    run("exports watch", job)
    run("exports set-default", job)
    run("exports download", job, str(folder / "package.zip"))
    run("exports retry", job, code="conflict")
    run("exports cancel", job, code="conflict")
    return str(job)


def use_evaluations(run: Shell, model: str, folder: Path) -> None:
    file = folder / "rows.npz"
    np.savez(file, x=np.eye(3, dtype=np.float32), y=np.arange(3))
    data = run("datasets register", "rows", "--format", "npz", "--file", str(file), "--json")["id"]
    done = run("evaluate", model, "--dataset", data, "--metric", "accuracy", "--wait", "--json")
    assert done["results"]["accuracy"]["value"] == 1
    run("evaluations list")
    run("evaluations get", done["id"])
    run("evaluations wait", done["id"])
    run("evaluations cancel", done["id"], code="conflict")
    run("evaluations delete", done["id"])


def use_deployments(run: Shell, job: str, folder: Path) -> None:
    made = run("deployments create", job, "digits", "--wait", "--json")
    name = made["id"]
    np.save(folder / "x.npy", np.ones((2, 3), np.float32))
    run("predict", name, str(folder / "x.npy"), "--key", made["api_key"])
    run("deployments list")
    run("deployments get", name)
    run("deployments show", name)
    run("deployments update", name, "--description", "x")
    run("deployments scale", name, "1")
    run("deployments watch", name, "--until-active", "--interval", "0.1")
    run("deployments promote", name, "v9.9", code="invalid_field")
    run("deployments rollback", name, code="conflict")
    run("deployments deactivate", name)
    run("deployments activate", name, "--wait")
    for shown in ("history", "usage", "logs"):
        run(f"deployments {shown}", name)
    key = run("deployments keys create", name, "ci", "--json")["id"]
    run("deployments keys list", name)
    run("deployments keys rotate", name, key)
    run("deployments keys revoke", name, key)
    run("deployments delete", name)
    run("deployments create", job, "mobile", "--type", "download")
    run("deployments renew", "mobile")
    run("deployments download", "mobile", str(folder / "mobile.zip"))
    run("deployments delete", "mobile")


def operate(stack: Stack, run: Shell, folder: Path) -> None:
    """These work on the data folder or the database, beside the service."""
    archive = str(folder / "backup.tar")
    here = {"MODEL_SERVICE_HOME": str(stack.data_dir)}
    url = stack.report["mongodb_url"]
    ports = {
        variable: stack.report[name].rpartition(":")[2]
        for variable, name in (("PORT", "api"), ("INFERENCE_PORT", "inference"))
    }
    for settings, command, *given in (
        [here, "backup", archive],
        [here, "restore", "--force", archive],
        [here, "verify"],
        [here, "cleanup", "--dry-run"],
        [{"MONGODB_URL": url, "MONGODB_ADMIN_URL": url}, "setup-database"],
        [here | ports, "doctor"],
    ):
        run.ran.add(command)
        words = [sys.executable, "-m", "model_service.cli", command, *given]
        env = os.environ | settings
        subprocess.run(words, env=env, check=True, capture_output=True, timeout=350)


@pytest.mark.timeout(600)  # doctor may import all toolchains
def test_every_command_ends_under_the_default_limits(
    secured: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("typer.testing._get_command", cache(typer.main.get_command))  # made once for all
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    program = tmp_path / "scale.pt2"
    program.write_bytes(scaling_program(2.0))
    run = Shell(secured)
    run.ran.add("up")  # it runs the service
    with caplog.at_level(logging.WARNING, "model_service.client"):
        use_people(run)
        use_webhooks(run)
        model = use_models(run, program, tmp_path)
        use_datasets_and_training(run, program, tmp_path)
        use_evaluations(run, model, tmp_path)
        use_deployments(run, use_exports(run, model, tmp_path), tmp_path)
        run("health")
        run("registry export", str(tmp_path / "registry.tar"))
        run("registry import", str(tmp_path / "registry.tar"), "--on-conflict", "skip")
    operate(secured, run, tmp_path)
    assert refused_requests(secured) == []
    assert [message for message in caplog.messages if "limit" in message] == []
    assert set(commands(typer.main.get_command(app))) - run.ran == set()


def test_a_thousand_files_go_up_and_come_down(
    secured: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    source = tmp_path / "source"
    for number in range(1000):
        file = source / f"{number % 10}" / f"{number}.bin"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(f"file {number}".encode() * 50)
    run = Shell(secured)
    model = run("models register", "folder", "cnn", "--json")["id"]
    run("models files put", model, str(source))
    run("models files get-all", model, str(tmp_path / "back"))
    there = {path.relative_to(source): path.read_bytes() for path in source.rglob("*.bin")}
    back = {
        path.relative_to(tmp_path / "back"): path.read_bytes() for path in (tmp_path / "back").rglob("*.bin")
    }
    assert len(back) == 1000
    assert back == there
    assert refused_requests(secured) == []
