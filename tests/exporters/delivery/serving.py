"""Starts the server of a container package as its Dockerfile does, and asks it."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import urllib3

from exporters.proof import golden
from tests.waiting import wait_for


def instruction(dockerfile: Path, name: str) -> str:
    """The argument of an instruction, in one line."""
    text = re.sub(r"\\\n\s*", "", dockerfile.read_text())
    (found,) = [line.removeprefix(f"{name} ") for line in text.splitlines() if line.startswith(f"{name} ")]
    return found


@contextmanager
def started(folder: Path, port: int) -> Iterator[str]:
    """The server's URL. Its command and variables are those of the Dockerfile, but for the address."""
    command = json.loads(instruction(folder / "Dockerfile", "CMD"))
    variables = dict(re.findall(r"(\w+)=(\S+)", instruction(folder / "Dockerfile", "ENV")))
    variables |= {"GRANIAN_PORT": str(port), "GRANIAN_HOST": "127.0.0.1"}
    variables["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    log = folder.parent / f"{folder.name}.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, cwd=folder, env=os.environ | variables, stdout=file, stderr=subprocess.STDOUT
        )
    url = f"http://127.0.0.1:{port}"

    def is_ready() -> bool:
        assert process.poll() is None, log.read_text()
        return urllib3.request("GET", f"{url}/v2/health/ready", retries=False).status == 200

    try:
        wait_for(is_ready, "the server", ignoring=(urllib3.exceptions.HTTPError,))
        yield url
    finally:
        process.terminate()
        process.wait(30)


def check_answer(url: str, folder: Path) -> None:
    """Send input.json as the README does; the answer must be the source model's."""
    body = (folder / "input.json").read_bytes()
    headers = {"Content-Type": "application/json"}
    answer = urllib3.request("POST", f"{url}/v2/models/model/infer", body=body, headers=headers)
    assert answer.status == 200, answer.data
    expected = golden.read(folder / "golden.npz").expected
    outputs: list[dict[str, Any]] = answer.json()["outputs"]
    assert {output["name"] for output in outputs} == set(expected)
    for output in outputs:
        wanted = expected[output["name"]]
        assert output["shape"] == list(wanted.shape)
        actual = np.array(output["data"], dtype=wanted.dtype).reshape(wanted.shape)
        np.testing.assert_allclose(actual, wanted, rtol=1e-3, atol=1e-4 * float(np.abs(wanted).max()))
