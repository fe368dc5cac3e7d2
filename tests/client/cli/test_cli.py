"""The commands as a person or a script runs them: processes, their output and their exit codes.

Most of them are forks of a process that has imported the command line; some start Python, as a user does.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from model_service import __version__
from tests import forks
from tests.processes import take_ctrl_c

from ..scripted import Request, Scripted, answers

IMPORTED = ("tests.client.cli.used_once",)
COMMAND = [sys.executable, "-m", "model_service.cli"]


def run(
    *arguments: str, url: str = "http://127.0.0.1:9", cwd: Path | None = None, **env: str
) -> "subprocess.CompletedProcess[str]":
    return forked(*arguments, env=os.environ | {"MODEL_SERVICE_URL": url} | env, cwd=cwd)


def forked(
    *arguments: str, env: Mapping[str, str], cwd: Path | None = None, given: str = ""
) -> "subprocess.CompletedProcess[str]":
    words = ["-m", "model_service.cli", *arguments]
    return forks.run_text(words, imported=IMPORTED, env=env, cwd=cwd, given=given)


def result(*arguments: str, url: str) -> Any:
    done = run(*arguments, "--json", url=url)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_models_life_in_json(service_url: str, tmp_path: Path) -> None:
    source, back = tmp_path / "digits.pt2", tmp_path / "back.pt2"
    source.write_bytes(os.urandom(100_000))
    metrics = '{"accuracy": 0.97}'
    model = result(
        "models", "register", "digits", "cnn", "--tag", "vision", "--metrics", metrics, url=service_url
    )
    assert (model["name"], model["tags"], model["metrics"]) == ("digits", ["vision"], {"accuracy": 0.97})

    uploaded = result("models", "upload", model["id"], str(source), url=service_url)
    assert uploaded["file_metadata"]["filename"] == "digits.pt2"
    result("models", "download", model["id"], str(back), url=service_url)
    assert back.read_bytes() == source.read_bytes()

    updated = result("models", "update", model["id"], "--description", "scans", url=service_url)
    assert updated["description"] == "scans"
    listed = result("models", "list", "--algorithm", "cnn", url=service_url)
    assert [each["id"] for each in listed["models"]] == [model["id"]]
    assert listed["pagination"]["total"] == 1

    job = result("exports", "create", model["id"], url=service_url)
    assert result("exports", "get", job["id"], url=service_url)["status"] == "pending"
    assert len(result("exports", "list", "--model-id", model["id"], url=service_url)["jobs"]) == 1
    assert result("deployments", "list", url=service_url)["deployments"] == []


def test_a_person_sees_tables_with_whole_ids(service_url: str, tmp_path: Path) -> None:
    source = tmp_path / "digits.pt2"
    source.write_bytes(b"\x00" * 1500)
    shown = run("models", "register", "digits", "cnn", "--file", str(source), url=service_url)
    assert "digits.pt2, 1.5 kB" in shown.stdout
    model_id = shown.stdout.split()[1]
    listed = run("models", "list", url=service_url).stdout
    assert model_id in listed
    assert "1 of 1, page 1 of 1." in listed
    deleted = run("models", "delete", model_id, url=service_url)
    assert deleted.stdout == f"Deleted {model_id}.\n"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(("get", "nonsense"), "malformed_id"), (("register", "di gits", "cnn"), "invalid_field")],
)
def test_a_refusal_is_one_line_and_exit_code_1(
    service_url: str, arguments: tuple[str, ...], code: str
) -> None:
    done = run("models", *arguments, url=service_url)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {code}: ")
    assert done.stderr.count("\n") == 1


def test_no_service_says_which_address_and_what_to_do() -> None:
    done = run("models", "list", url="http://127.0.0.1:9")
    assert done.returncode == 1
    assert done.stderr.startswith("error: connection_failed: Cannot connect to http://127.0.0.1:9")
    assert "model-service up" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("models", "get"),
        ("models", "list", "--page", "0"),
        ("models", "register", "digits", "cnn", "--metrics", "[1"),
        ("models", "register", "digits", "cnn", "--metrics", "[1]"),
        ("models", "register", "digits", "cnn", "--file", "/no/such/file"),
        ("models", "update", "m1"),
        ("up", "--port", "99999"),
        ("no-such-command",),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_code_2(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr


def test_a_missing_local_file_is_one_line(script: Scripted) -> None:
    done = run("models", "upload", "m1", "/no/such/file", url=script.url)
    assert done.returncode == 1
    assert "/no/such/file" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_failed_export_is_exit_code_1_and_its_job_is_still_printed(script: Scripted) -> None:
    job = {"id": "j1", "status": "failed", "error_code": "unsafe_checkpoint", "error_message": "A pickle."}
    script.steps = [
        answers(202, b'{"id": "j1", "status": "pending"}'),
        answers(200, json.dumps(job).encode()),
    ]
    done = run("exports", "create", "m1", "--wait", "--json", url=script.url)
    assert done.returncode == 1
    assert json.loads(done.stdout) == job
    assert done.stderr.splitlines()[1:] == ["error: unsafe_checkpoint: Export j1 failed: A pickle."]


def test_what_an_upload_is_called_cannot_drive_the_terminal(script: Scripted) -> None:
    model = {"id": "m1", "name": "\x1b]0;owned\x07[red]x", "version": "v1.0", "algorithm": "cnn"}
    script.steps = [answers(200, json.dumps(model | {"status": "active"}).encode())]
    shown = run("models", "get", "m1", url=script.url).stdout
    assert "[red]x" in shown
    assert "\x1b" not in shown
    assert "\x07" not in shown


def test_the_key_of_a_new_deployment_is_in_the_json_after_the_wait(script: Scripted) -> None:
    script.steps = [
        answers(202, b'{"id": "d1", "status": "pending", "api_key": "pk_1"}'),
        answers(
            200, b'{"id": "d1", "status": "active", "endpoint_url": "http://127.0.0.1:8085/v1/infer/d1"}'
        ),
    ]
    deployment = result("deployments", "create", "j1", "digits", "--wait", url=script.url)
    assert (deployment["api_key"], deployment["status"]) == ("pk_1", "active")


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (b'{"inputs": [[1, 2]]}', "application/json"),
        (b"[[1, 2]]", "application/json"),
        (b"\x93NUMPY\x01\x00 whatever follows", "application/x-npy"),
    ],
)
def test_predict_sends_json_and_npy_files(
    script: Scripted, tmp_path: Path, content: bytes, content_type: str
) -> None:
    file = tmp_path / "input"
    file.write_bytes(content)
    script.steps = [answers(200, b'{"outputs": {"logits": [[0.5]]}, "predictions": [0], "latency_ms": 1.5}')]
    answer = result("predict", f"{script.url}/v1/infer/d1", str(file), "--key", "pk_1", url=script.url)
    assert answer["predictions"] == [0]
    sent: Request = script.requests[0]
    assert sent.headers["content-type"] == content_type
    assert sent.headers["authorization"] == "Bearer pk_1"
    expected = content if content_type == "application/x-npy" else b'{"inputs": [[1, 2]]}'
    assert sent.body == expected


def test_ctrl_c_while_waiting_is_exit_code_130(script: Scripted) -> None:
    script.steps = [answers(200, b'{"id": "j1", "status": "running"}')]
    waiting = subprocess.Popen(
        [*COMMAND, "--url", script.url, "exports", "wait", "j1"],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=take_ctrl_c,
    )
    script.wait_for_requests(2)
    waiting.send_signal(signal.SIGINT)
    _, said = waiting.communicate(timeout=30)
    assert waiting.returncode == 130
    assert "Traceback" not in said


def test_the_version() -> None:
    assert run("version").stdout == f"model-service {__version__}\n"
    assert json.loads(run("version", "--json").stdout) == {"version": __version__}


@pytest.mark.parametrize(("name", "value"), [("MAX_FILE_SIZE", "lots"), ("HOST", "0.0.0.0")])
def test_up_refuses_a_wrong_setting_in_one_line(tmp_path: Path, name: str, value: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "model_service.cli", "up", "--data-dir", str(tmp_path / "data")],
        env=os.environ | {name: value},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
    assert f"{name}={value}" in ended.stderr
    assert not (tmp_path / "data").exists()
