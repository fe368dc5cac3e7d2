"""``model-service predict``: what a person or a script asks, and what they read."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from model_service.cli.app import app
from model_service.client import Unauthorized

from ..scripted import Scripted, answers
from ..wire import echoes, says

Ask = Callable[..., Result]

ID = "6c0ee1a0-0000-4000-8000-000000000001"
BOXES = {
    "predictions": [
        [
            {"class": "cat", "class_id": 0, "confidence": 0.95, "bbox": [10.0, 20.0, 100.5, 150.0]},
            {"class": "dog", "class_id": 1, "confidence": 0.5, "bbox": [1.0, 2.0, 3.0, 4.0]},
        ]
    ],
    "latency_ms": 25,
    "model_version": "v1",
}


def deployment(script: Scripted, deployment_id: str = ID) -> dict[str, Any]:
    url = f"{script.url}/v1/infer/{deployment_id}"
    return {"id": deployment_id, "name": "pets", "status": "active", "endpoint_url": url}


@pytest.fixture
def ask(script: Scripted, tmp_path: Path) -> Ask:
    def asked(*words: str, given: bytes = b"", **env: str) -> Result:
        env = {"MODEL_SERVICE_URL": script.url, "XDG_CONFIG_HOME": str(tmp_path), **env}
        return CliRunner().invoke(app, ["predict", *words], input=given, env=env)

    return asked


@pytest.fixture
def image(tmp_path: Path) -> Path:
    file = tmp_path / "pets.png"
    Image.new("RGB", (4, 4)).save(file)
    return file


def test_an_image_is_asked_by_the_deployments_name_with_the_key_that_was_kept(
    script: Scripted, ask: Ask, image: Path, tmp_path: Path
) -> None:
    (tmp_path / "model-service").mkdir()
    (tmp_path / "model-service" / "deployment_keys.json").write_text(json.dumps({ID: "pk_kept"}))
    script.steps = [
        answers(200, json.dumps(deployment(script)).encode()),
        answers(200, json.dumps(BOXES).encode()),
    ]
    done = ask("pets", str(image), "--confidence-threshold", "0.5")
    assert done.exit_code == 0, done.stderr
    assert "model v1, 25.00 ms" in done.stdout
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["0", "cat", "0.95", "10,", "20,", "100.5,", "150"] in rows
    assert ["0", "dog", "0.5", "1,", "2,", "3,", "4"] in rows
    sent = script.requests[-1]
    assert (sent.headers["authorization"], sent.headers["content-type"]) == ("Bearer pk_kept", "image/png")
    assert sent.body == image.read_bytes()
    assert dict(parse_qsl(urlsplit(sent.path).query)) == {"confidence_threshold": "0.5"}


@pytest.mark.parametrize("name", ["y.npz", "y.npy"])
@pytest.mark.parametrize("given", ["npy", "npz", "json"])
def test_outputs_are_written_as_arrays(
    script: Scripted, ask: Ask, tmp_path: Path, name: str, given: str
) -> None:
    script.steps = [echoes({"x": "FP32"})]
    array, file = np.arange(6, dtype=np.float32).reshape(2, 3), io.BytesIO()
    if given == "json":
        content = json.dumps({"x": array.tolist()}).encode()
    else:
        np.save(file, array) if given == "npy" else np.savez(file, x=array)
        content = file.getvalue()
    done = ask(f"{script.url}/v1/infer/d1", "-", "--output", str(tmp_path / name), given=content)
    assert done.exit_code == 0, done.stderr
    assert "echo_x float32[2, 3]" in done.stdout
    read = np.load(tmp_path / name, allow_pickle=False)
    np.testing.assert_array_equal(read if name == "y.npy" else read["echo_x"], array)


def test_a_text_and_the_model_of_several_are_options(script: Scripted, ask: Ask) -> None:
    script.steps = [answers(200, b'{"predictions": [[{"class": "good", "confidence": 0.75}]]}')]
    url = f"{script.url}/v1/infer/d1"
    done = ask(url, "--text", "I like it", "--model", "en", "--top-k", "1", "--key", "pk_1", "--json")
    assert json.loads(done.stdout)["predictions"][0][0]["class"] == "good"
    assert script.requests[0].body == b'{"text": "I like it"}'
    assert dict(parse_qsl(urlsplit(script.requests[0].path).query)) == {"model": "en", "top_k": "1"}


@pytest.mark.parametrize("given", [b'[{"age": 30}]', b'{"records": [{"age": 30}]}'], ids=["rows", "body"])
def test_objects_in_json_are_records(script: Scripted, ask: Ask, given: bytes) -> None:
    script.steps = [answers(200, b'{"outputs": {"y": [1]}}')]
    assert ask(f"{script.url}/v1/infer/d1", "-", "--key", "pk_1", given=given).exit_code == 0
    assert json.loads(script.requests[0].body) == {"records": [{"age": 30}]}


def test_a_csv_file_is_sent_as_it_is(script: Scripted, ask: Ask, tmp_path: Path) -> None:
    script.steps = [answers(200, b'{"outputs": {"y": [1]}}')]
    file = tmp_path / "rows.csv"
    file.write_bytes(b"age\n30\n")
    assert ask(f"{script.url}/v1/infer/d1", str(file), "--key", "pk_1").exit_code == 0
    assert script.requests[0].body == file.read_bytes()


@pytest.mark.parametrize(
    ("key", "advice"), [("pk_wrong", "not valid for this deployment"), ("", "keys create")]
)
def test_a_wrong_key_and_none_are_told_apart(script: Scripted, ask: Ask, key: str, advice: str) -> None:
    script.steps = [says(401, "Wrong key.")]
    done = ask(f"{script.url}/v1/infer/d1", "-", given=b"[[1]]", MODEL_SERVICE_DEPLOYMENT_KEY=key)
    assert isinstance(done.exception, Unauthorized)
    assert advice in done.exception.__notes__[0]


@pytest.mark.parametrize(
    ("words", "given", "said"),
    [
        ((), b"", "--text"),
        (("-", "--text", "x"), b"[]", "--text"),
        (("-",), b"neither", "neither an image"),
        (("-", "--output", "y.txt"), b"[[1]]", ".npz"),
        (("-", "--output", "y.npz"), b"\x89PNG\r\n\x1a\n", "predictions"),
        (("-", "--output", "y.npz"), b"PK\x03\x04", "damaged"),
        (("-", "--output", "y.npz"), b"[[1], [1, 2]]", "not an array"),
        (("--text", "x", "--output", "y.npz"), b"", "predictions"),
    ],
    ids=["nothing", "both", "noise", "suffix", "image", "damaged", "ragged", "text"],
)
def test_wrong_usage_is_exit_code_2_and_asks_nobody(
    script: Scripted, ask: Ask, words: tuple[str, ...], given: bytes, said: str
) -> None:
    done = ask(f"{script.url}/v1/infer/d1", *words, given=given)
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.replace("│", " ").split())
    assert script.requests == []
