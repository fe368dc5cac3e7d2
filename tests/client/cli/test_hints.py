"""What the messages of the CLI and of the Python client tell to do, in the words of each."""

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from model_service import __version__
from model_service.cli.app import app
from model_service.client import (
    ExportFailed,
    InvalidRequest,
    ModelServiceClient,
    ServiceError,
    Unauthorized,
)

from ..scripted import Scripted, answers
from ..transport.test_http import error
from .test_cli import run


def test_the_version_is_an_option_too() -> None:
    done = CliRunner().invoke(app, ["--version"])
    assert (done.exit_code, done.stdout) == (0, f"model-service {__version__}\n")


@pytest.mark.parametrize(
    ("words", "sent"),
    [
        (["--option", "opset_version=18"], {"opset_version": 18}),
        (["--option", "precision=float16"], {"precision": "float16"}),
        (["--option", 'inputs=[{"shape": ["batch", 3]}]'], {"inputs": [{"shape": ["batch", 3]}]}),
        (["--export-config", '{"a": 1, "b": 2}', "--option", "b=true"], {"a": 1, "b": True}),
        (["--export-config", "{}"], {}),
        ([], None),
    ],
)
def test_options_of_a_format_are_named_one_by_one(
    script: Scripted, words: list[str], sent: dict[str, Any] | None
) -> None:
    script.steps = [answers(202, b'{"id": "j1", "status": "pending"}')]
    done = CliRunner().invoke(app, ["--url", script.url, "exports", "create", "cats@production", *words])
    assert done.exit_code == 0, done.output
    assert json.loads(script.requests[0].body).get("export_config") == sent


@pytest.mark.parametrize("word", ["opset_version", "=18", "inputs=[{"])
def test_an_option_without_a_value_is_wrong_usage(word: str) -> None:
    done = CliRunner().invoke(app, ["exports", "create", "cats@production", "--option", word])
    assert done.exit_code == 2
    assert "--option" in done.stderr


def test_an_option_that_is_misspelt_gets_the_right_ones_and_how_to_give_them(
    service_url: str, client: ModelServiceClient
) -> None:
    model = client.register_model("digits", algorithm="cnn")
    shown = run("exports", "create", model, "--option", "opset_verion=18", url=service_url).stderr
    assert "Did you mean 'opset_version'? Its options: " in shown
    assert "`--option NAME=JSON`" in shown
    assert "create_export" not in shown
    with pytest.raises(InvalidRequest) as caught:
        client.create_export(model, export_config={"opset_verion": 18})
    assert "export_config=" in str(caught.value)
    assert "--option" not in str(caught.value)


def test_an_algorithm_need_not_be_named(service_url: str) -> None:
    first = json.loads(run("models", "register", "a", "--json", url=service_url).stdout)
    second = json.loads(
        run("models", "register", "b", "--framework", "sklearn", "--json", url=service_url).stdout
    )
    assert (first["algorithm"], second["algorithm"]) == ("unspecified", "sklearn")


def test_a_job_that_lacks_an_option_says_how_to_give_it(script: Scripted) -> None:
    failed = {
        "id": "j1",
        "status": "failed",
        "error_code": "unsupported_option",
        "error_message": "TorchScript does not record the shapes of its inputs (x).",
    }
    script.steps = [answers(404, error("no_events"))] + [answers(200, json.dumps(failed).encode())] * 2
    with ModelServiceClient(script.url) as client, pytest.raises(ExportFailed, match="export_config="):
        client.wait_for_export("j1", timeout_s=5)
    script.steps = [answers(404, error("no_events"))] + [answers(200, json.dumps(failed).encode())] * 2
    done = run("exports", "wait", "j1", url=script.url)
    assert "`--option NAME=JSON`" in done.stderr
    assert "export_config=" not in done.stderr


@pytest.mark.parametrize(
    ("status", "words"),
    [(413, "client_max_body_size"), (404, "Its log has the reason"), (504, "proxy_read_timeout")],
)
def test_an_answer_of_a_proxy_names_it(script: Scripted, status: int, words: str) -> None:
    body = b"<html><h1>nginx</h1></html>"
    script.steps = [answers(status, body, Server="nginx/1.25")] * 6
    with ModelServiceClient(script.url) as client, pytest.raises(ServiceError) as caught:
        client.delete_model("m")
    assert "nginx/1.25" in caught.value.message
    assert f"responded with {status} instead of the service" in caught.value.message
    assert words in caught.value.message
    assert caught.value.code == f"http_{status}"


def test_a_missing_key_is_explained_in_the_words_of_the_interface(script: Scripted) -> None:
    script.steps = [answers(401, error("unauthorized"))]
    with ModelServiceClient(script.url) as client, pytest.raises(Unauthorized, match="api_key"):
        client.get_model("m")
    script.steps = [answers(401, error("unauthorized"))]
    shown = run("models", "get", "m", url=script.url).stderr
    assert "--api-key" in shown
    assert "login()" not in shown
