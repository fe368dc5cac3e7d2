"""The command line as its callers see it: a real child process."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from exporters import package

from .conftest import Export, events
from .models import SAMPLES

ROOT = Path(__file__).parents[2]


@pytest.fixture
def request_for(tmp_path: Path, checkpoint: Callable[[str], Path]) -> Callable[..., str]:
    def make(**fields: object) -> str:
        return json.dumps(
            {
                "source": str(checkpoint("mlp-pt2")),
                "output_dir": str(tmp_path / "out"),
                "format": "onnx",
                **fields,
            }
        )

    return make


@pytest.fixture
def warm_child() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-m", "exporters", "run", "-", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        started.append(child)
        return child

    yield start
    for child in started:
        child.kill()
        child.communicate()


def test_run_reports_progress_and_ends_with_the_result(
    exporters_cli: Callable, request_for: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "request.json").write_text(request_for(model={"name": "digits"}))

    done = exporters_cli("run", tmp_path / "request.json")

    assert done.returncode == 0, done.stderr
    found = events(done.stdout)
    steps = [line for line in found if line["event"] == "step"]
    assert [line["step"] for line in steps] == [
        "load",
        "reference",
        "convert",
        "verify",
        "measure",
        "package",
    ]
    assert not any(line["failed"] for line in steps)
    lines = [line for line in found if line["event"] != "step"]
    assert [line["event"] for line in lines[:-1]] == ["progress"] * (len(lines) - 1)
    percents = [line["percent"] for line in lines[:-1]]
    assert percents == sorted(percents)
    assert percents[-1] == 100
    result = lines[-1]["result"]
    assert (lines[-1]["event"], result["verdict"]) == ("completed", "verified")
    assert result["performance"]["inference_latency_ms"] > 0
    assert result["environment"]["network"] == "open: not asked for"
    package.verify(Path(result["package_dir"]))


@pytest.mark.parametrize(
    ("traceparent", "trace_id"),
    [
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "0af7651916cd43dd8448eb211c80319c"),
        ("00-0af7651916cd43dd8448eb211c80319c", None),
    ],
)
def test_run_has_the_trace_id_of_its_request_in_every_line(
    exporters_cli: Callable,
    request_for: Callable[..., str],
    tmp_path: Path,
    traceparent: str,
    trace_id: str | None,
) -> None:
    missing = str(tmp_path / "missing.pt2")
    (tmp_path / "request.json").write_text(request_for(source=missing, traceparent=traceparent))
    done = exporters_cli("run", tmp_path / "request.json")
    found = events(done.stdout)
    assert [line["event"] for line in found] == ["progress", "step", "failed"]
    assert (found[1]["step"], found[1]["failed"]) == ("load", True)
    assert [line.get("trace_id") for line in found] == [trace_id] * 3


def test_a_warm_child_says_ready_and_serves_one_request(
    warm_child: Callable[..., subprocess.Popen[str]], request_for: Callable[..., str]
) -> None:
    child = warm_child("--isolate-network", "--memory-bytes", "6000000000")
    assert child.stdout is not None

    ready = json.loads(child.stdout.readline())
    output, _ = child.communicate(request_for() + "\n", timeout=60)

    assert ready["event"] == "ready"
    network = ready["environment"]["network"]
    assert network == "isolated" or network.startswith("open: ")
    if sys.platform == "linux":
        assert ready["environment"]["limits"] == {"memory_bytes": 6_000_000_000}
    assert events(output)[-1]["event"] == "completed"
    assert child.returncode == 0


def test_a_warm_child_without_a_request_ends_quietly(
    warm_child: Callable[..., subprocess.Popen[str]],
) -> None:
    child = warm_child()
    assert child.stdout is not None

    ready = json.loads(child.stdout.readline())
    output, _ = child.communicate("", timeout=60)

    assert (ready["event"], output) == ("ready", "")
    assert child.returncode == 0


def test_a_request_can_come_from_a_file(request_for: Callable[..., str], tmp_path: Path) -> None:
    request = tmp_path / "request.json"
    request.write_text(request_for(source="nowhere"))
    with request.open() as file:
        done = subprocess.run(
            [sys.executable, "-m", "exporters", "run", "-"],
            stdin=file,
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
    ready, *_, failed = events(done.stdout)
    assert (ready["event"], failed["event"]) == ("ready", "failed")
    assert "nowhere" in failed["message"]


@pytest.mark.parametrize("waits", [True, False])
def test_a_child_converts_nothing_before_a_request_that_waits(
    request_for: Callable[..., str], tmp_path: Path, waits: bool
) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "exporters", "run", "-"]
    imported = tmp_path / "imported"
    with (
        imported.open("w") as errors,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT
        ) as child,
    ):
        assert child.stdout is not None
        if not waits:
            child.stdout.readline()
        child.communicate(request_for(source="nowhere"), timeout=120)
    assert ("torch.onnx._internal.exporter._core" in imported.read_text()) == (not waits)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", "unsupported_option"),
        ('{"source": "x", "output_dir": "y", "format": "onnx", "colour": 1}', "unsupported_option"),
        ('{"source": "x", "output_dir": "y", "format": "onnx", "limits": {"gold": 1}}', "unsupported_option"),
        ('{"source": "x", "output_dir": "/dev/null/no", "format": "punch-cards"}', "unsupported_option"),
    ],
    ids=["not JSON", "unknown field", "unknown limit", "unknown format"],
)
def test_a_wrong_request_fails_with_its_code(
    text: str, code: str, exporters_cli: Callable, tmp_path: Path
) -> None:
    (tmp_path / "request.json").write_text(text)

    done = exporters_cli("run", tmp_path / "request.json")

    last = events(done.stdout)[-1]
    assert (done.returncode, last["event"], last["code"]) == (1, "failed", code)
    assert "Traceback" not in done.stdout


def test_a_source_that_is_no_model_fails_with_its_code(
    exporters_cli: Callable, request_for: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "model.pt2").write_text("hello")
    (tmp_path / "request.json").write_text(request_for(source=str(tmp_path / "model.pt2")))

    done = exporters_cli("run", tmp_path / "request.json")

    assert events(done.stdout)[-1]["code"] == "invalid_source"
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="limits are Linux's")
@pytest.mark.parametrize(
    ("limits", "which"),
    [({"file_bytes": 300}, "file"), ({"cpu_s": 1}, "cpu")],
    ids=["file", "cpu"],
)
def test_a_limit_ends_the_conversion_with_its_name(
    limits: dict, which: str, exporters_cli: Callable, request_for: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "request.json").write_text(request_for(limits=limits))

    done = exporters_cli("run", tmp_path / "request.json")

    last = events(done.stdout)[-1]
    assert (last["code"], last["details"]) == ("limit_exceeded", {"limit": which})


@pytest.mark.skipif(sys.platform != "linux", reason="limits are Linux's")
def test_too_little_memory_ends_the_conversion_with_its_name(
    warm_child: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    """The model asks for 8 GB at once; the child has 3."""
    import torch

    class Greedy(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.sum() + torch.ones(1_000_000_000, 2).sum()

    torch.export.save(torch.export.export(Greedy(), (torch.randn(2, 2),)), tmp_path / "model.pt2")
    request = {"source": str(tmp_path / "model.pt2"), "output_dir": str(tmp_path / "out"), "format": "onnx"}
    child = warm_child("--memory-bytes", "3000000000")

    output, _ = child.communicate(json.dumps(request) + "\n", timeout=100)

    last = events(output)[-1]
    assert (last["code"], last["details"]) == ("limit_exceeded", {"limit": "memory"})


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_a_warm_child_dies_with_its_parent() -> None:
    """The parent is killed, so that nothing of it can tidy up."""
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import subprocess, sys\n"
            "child = subprocess.Popen([sys.executable, '-m', 'exporters', 'run', '-'], stdin=subprocess.PIPE,"
            " stdout=subprocess.PIPE, text=True)\n"
            "child.stdout.readline()\n"
            "print(child.pid, flush=True)\n"
            "child.wait()\n",
        ],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert parent.stdout is not None
    descriptor = os.pidfd_open(int(parent.stdout.readline()))

    parent.send_signal(signal.SIGKILL)
    parent.communicate()

    import select

    assert select.select([descriptor], [], [], 30)[0], "the child outlived its parent"
    os.close(descriptor)


def test_capabilities_list_every_format_with_its_options(exporters_cli: Callable) -> None:
    formats = json.loads(exporters_cli("capabilities").stdout)["formats"]

    onnx = next(one for one in formats if one["name"] == "onnx")
    assert (onnx["available"], onnx["reason"]) == (True, None)
    assert onnx["options"]["opset_version"]["allowed"] == [13, 23]


def test_convert_prints_the_result_for_a_person(
    exporters_cli: Callable, checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    done = exporters_cli("convert", checkpoint("mlp-pt2"), "--to", "onnx", "--out", tmp_path / "out")

    assert done.returncode == 0
    assert done.stdout.startswith("verified: ")
    assert str(tmp_path / "out") in done.stdout
    assert "Comparing the artefact with its source" in done.stderr


def test_convert_prints_json_for_a_program(
    exporters_cli: Callable, checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = exporters_cli("convert", checkpoint("mlp-pt2"), "--to", "onnx", "--out", out, "--json")

    assert json.loads(done.stdout)["verdict"] == "verified"


@pytest.mark.parametrize("option", ["opset_version=abc", "opset_version", "foo"])
def test_an_option_that_is_not_json_is_named(
    exporters_cli: Callable, checkpoint: Callable[[str], Path], tmp_path: Path, option: str
) -> None:
    arguments = ["--to", "onnx", "--out", tmp_path / "out", "--option", option]
    done = exporters_cli("convert", checkpoint("mlp-pt2"), *arguments)

    assert done.returncode == 1
    assert f"--option {option} is not of the form NAME=JSON" in done.stderr


def test_files_that_are_not_there_are_named(exporters_cli: Callable, tmp_path: Path) -> None:
    for arguments in (["convert", "nope.pt2", "--to", "onnx", "--out", tmp_path], ["verify", "nope.pt2"]):
        done = exporters_cli(*arguments)
        assert done.returncode == 1
        assert "nope.pt2" in done.stderr
        assert "Errno" not in done.stderr


def test_verify_accepts_a_package_as_folder_and_as_zip(
    exporters_cli: Callable, exported: Export, tmp_path: Path
) -> None:
    folder = exported(SAMPLES[0]).package_dir
    package.pack(folder, tmp_path / "package.zip")

    assert exporters_cli("verify", folder).returncode == 0
    assert exporters_cli("verify", tmp_path / "package.zip").returncode == 0


def test_verify_refuses_a_tampered_package(exporters_cli: Callable, exported: Export, tmp_path: Path) -> None:
    package.pack(exported(SAMPLES[0]).package_dir, tmp_path / "package.zip")
    package.unpack(tmp_path / "package.zip", tmp_path / "package")
    (tmp_path / "package/metadata.json").write_text("{}")

    done = exporters_cli("verify", tmp_path / "package")

    assert done.returncode == 1
    assert "metadata.json" in done.stderr


def test_a_terminal_shows_a_bar(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    main, other = pty.openpty()
    argv = [sys.executable, "-m", "exporters", "convert", str(checkpoint("mlp-pt2"))]
    argv += ["--to", "onnx", "--out", str(tmp_path / "out")]
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=other, cwd=ROOT, timeout=120)
    os.close(other)
    shown = os.read(main, 1 << 16).decode()
    os.close(main)

    assert done.returncode == 0
    assert shown.count("\n") == 1
    assert "█" * 30 + " 100 %" in shown.split("\r")[-2]


def test_convert_says_of_which_signal_the_converter_died(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    """Of the limit on processor time, which the import of torch alone takes."""
    argv = [sys.executable, "-m", "exporters", "convert", str(checkpoint("mlp-pt2"))]
    argv += ["--to", "onnx", "--out", str(tmp_path / "out")]

    done = subprocess.run(
        ["/bin/sh", "-c", 'ulimit -t 1; exec "$@"', "sh", *argv],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=False,
    )

    assert done.returncode > 128
    assert re.search(r"error: conversion_failed: The converter was ended by SIG(KILL|XCPU)", done.stderr)
