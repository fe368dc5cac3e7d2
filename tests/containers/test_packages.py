"""A container package, built and run by buildah without an engine, answers its golden inputs over HTTP."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch
import urllib3

from exporters import package
from exporters.convert import run
from exporters.delivery import container
from exporters.request import ExportRequest
from tests.containers import buildah
from tests.containers.buildah import BASE, Builder
from tests.e2e.conftest import free_ports
from tests.exporters.delivery.conftest import unpacked
from tests.exporters.delivery.serving import check_answer, instruction
from tests.exporters.wrappers.detector import POSTPROCESSING, PREPROCESSING, Detector, save
from tests.waiting import wait_for

pytestmark = [
    pytest.mark.large,
    pytest.mark.skipif(bool(buildah.missing()), reason=f"needs {', '.join(buildah.missing())}"),
]


@pytest.fixture
def builder(tmp_path: Path) -> Iterator[Builder]:
    folder = tmp_path / "buildah"
    folder.mkdir()
    builder = Builder(folder)
    try:
        builder.make_base()
        yield builder
    finally:
        subprocess.run(builder.argv("rm", "--all"), env=builder.env(), capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.timeout(1800)
def test_the_image_answers_the_golden_inputs(builder: Builder, tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = save(Detector().eval(), tmp_path / "model.pt2")
    result = run(
        ExportRequest(
            source, tmp_path / "package", "onnx", preprocessing=PREPROCESSING, postprocessing=POSTPROCESSING
        )
    )
    package.pack(result.package_dir, tmp_path / "package.zip")
    container.write(
        tmp_path / "server.zip",
        tmp_path / "package.zip",
        form="server",
        image_name="localhost/pets",
        image_tag="test",
    )
    folder = unpacked(tmp_path / "server.zip", tmp_path / "server")
    tools = tmp_path / "tools"  # where build.sh finds this buildah alone, with its storage
    tools.mkdir()
    words = " ".join(builder.argv())
    (tools / "buildah").write_text(f'#!/bin/sh\nPATH={os.environ["PATH"]} exec {words} "$@"\n')
    (tools / "buildah").chmod(0o755)
    for name in ("sh", "dirname"):
        (tools / name).symlink_to(str(shutil.which(name)))

    subprocess.run(
        ["sh", folder / "build.sh", "--build-arg", f"BASE_IMAGE={BASE}", *builder.options()],
        env=builder.env() | {"PATH": str(tools)},
        check=True,
    )
    name = builder.output("from", "localhost/pets:test")
    (port,) = free_ports(1)
    command = json.loads(instruction(folder / "Dockerfile", "CMD"))
    started = subprocess.Popen(
        builder.argv("run", f"--env=GRANIAN_PORT={port}", name, "--", *command), env=builder.env()
    )
    url = f"http://127.0.0.1:{port}"

    def is_ready() -> bool:
        assert started.poll() is None
        return urllib3.request("GET", f"{url}/v2/health/ready", retries=False).status == 200

    try:
        wait_for(is_ready, "the container", deadline_s=180, ignoring=(urllib3.exceptions.HTTPError,))
        check_answer(url, folder)
        processes = psutil.Process(started.pid).children(recursive=True)
        served = [each for each in processes if "granian" in " ".join(each.cmdline())]
        assert {each.uids().real for each in served} == {10001}
    finally:
        for process in psutil.Process(started.pid).children(recursive=True):
            process.kill()
        started.wait()
