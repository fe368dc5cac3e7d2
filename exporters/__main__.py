"""The command line: ``python -m exporters COMMAND``, for people: ``convert``, ``capabilities``, ``verify``.

``run``, ``evaluate``, ``inspect-dataset``, ``build-package``, ``export-network`` and ``check-network`` are
for programs; see ``confined``. The last two take the requests of ``exporters.network``. ``run -`` is a child
process that is started in advance: it imports the frameworks, runs a tiny conversion unless its request
already waits, writes ``ready``, and reads one request from its standard input.
"""

import argparse
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from . import confined, datasets
from .datasets.schema import DatasetFile
from .errors import ExportError, InvalidSource, PackageCorrupt, UnsupportedOption
from .request import ExportRequest, ExportResult
from .sandbox import limits

_BAR_WIDTH = 30
_CHILD = "MODEL_SERVICE_CONVERTING"  # set in the child process of ``convert``


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    command: dict[str, Any] = {
        "run": _run,
        "evaluate": _evaluate,
        "inspect-dataset": _inspect_dataset,
        "build-package": _build_package,
        "export-network": _export_network,
        "check-network": _check_network,
        "convert": _convert,
        "capabilities": _capabilities,
        "verify": _verify,
    }
    return int(command[arguments.command](arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m exporters", description="Convert a model, and prove that the result behaves like it."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run one conversion for a program: JSON lines on standard output")
    evaluate = commands.add_parser("evaluate", help="run a model or a package on a dataset, for a program")
    inspect = commands.add_parser("inspect-dataset", help="read a dataset and describe it, for a program")
    build = commands.add_parser("build-package", help="build a package for a device or container")
    export = commands.add_parser("export-network", help="export a torch network, for a program")
    check = commands.add_parser("check-network", help="check an exported torch network, for a program")
    for command in (run, evaluate, inspect, build, export, check):
        confined.add_arguments(command)
    convert = commands.add_parser("convert", help="run one conversion for a person")
    convert.add_argument(
        "model",
        type=Path,
        metavar="MODEL",
        help="an exported program (.pt2), TorchScript, weights, ONNX, an Ultralytics checkpoint, an "
        "estimator, or a Hugging Face folder",
    )
    convert.add_argument("--to", required=True, metavar="FORMAT", help="one of `capabilities`")
    convert.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="the folder of the package; empty or new"
    )
    convert.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=JSON",
        help="an option of the format; repeat it for several",
    )
    convert.add_argument("--json", action="store_true", help="print the whole result as JSON")
    commands.add_parser(
        "capabilities", help="print the formats, whether they work here, and their options, as JSON"
    )
    verify = commands.add_parser("verify", help="check a package's files, and run its golden inputs")
    verify.add_argument("package", type=Path, metavar="PACKAGE", help="a package: a folder or a zip")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    def work(data: Any, events: confined.Events) -> dict[str, Any]:
        request = ExportRequest.from_json(data)

        from . import convert

        return convert.run(request, events.progress, events.step_ended).to_json()

    return confined.run(arguments, work, _warm_up)


def _evaluate(arguments: argparse.Namespace) -> int:
    def work(data: Any, events: confined.Events) -> dict[str, Any]:
        from . import evaluation

        request = evaluation.EvaluationRequest.from_json(data)
        return evaluation.run(request, events.progress, events.step_ended)

    return confined.run(arguments, work)


def _inspect_dataset(arguments: argparse.Namespace) -> int:
    def work(data: Any, events: confined.Events) -> dict[str, Any]:
        file = DatasetFile.from_json(data.get("dataset") if isinstance(data, dict) else None)
        events.progress("inspect", 5.0, "Reading the dataset")
        return datasets.inspect(file)

    return confined.run(arguments, work)


def _build_package(arguments: argparse.Namespace) -> int:
    def work(data: Any, events: confined.Events) -> dict[str, Any]:
        from .delivery.build import build

        events.progress("build", 5.0, "Building the package")
        return build(data)

    return confined.run(arguments, work)


def _export_network(arguments: argparse.Namespace) -> int:
    def work(data: Any, events: confined.Events) -> dict[str, Any]:
        from . import network

        request = ExportRequest.from_json(data)
        return network.export(request, events.progress, events.step_ended)

    return confined.run(arguments, work)


def _check_network(arguments: argparse.Namespace) -> int:
    """The request's ``source`` is the folder."""

    def work(data: Any, events: confined.Events) -> dict[str, Any]:
        from . import network

        request = ExportRequest.from_json(data)
        events.progress("check", 0.0, "Checking the exported network")
        return network.check(request.source)

    return confined.run(arguments, work)


def _warm_up() -> None:
    """Import the frameworks, and fill the exporters' tables by a tiny conversion until a request arrives."""
    import onnx  # noqa: F401
    import onnxruntime  # noqa: F401
    import torch

    from . import convert, sources  # noqa: F401
    from .formats import torch_graph
    from .sources import pt2  # noqa: F401

    if _request_waits():
        return
    program = torch.export.export(torch.nn.Linear(1, 1).eval(), (torch.zeros(2, 1),))
    if _request_waits():
        return
    with torch_graph.quiet():
        torch.onnx.export(program, dynamo=True, verbose=False)


def _request_waits() -> bool:
    """Whether standard input has bytes, or was closed. Nothing may have been read from it."""
    return bool(select.select([sys.stdin], [], [], 0)[0])


def _convert(arguments: argparse.Namespace) -> int:
    if _CHILD not in os.environ:
        return _in_child()
    limits.die_with_parent()
    from . import convert

    try:
        if not arguments.model.exists():
            raise InvalidSource(f"There is no file {arguments.model}.")
        options = dict(_option(item) for item in arguments.option)
        request = ExportRequest(arguments.model, arguments.out, arguments.to, options)
        result = convert.run(request, _display)
    except ExportError as exc:
        newline = "\n" if sys.stderr.isatty() else ""
        print(f"{newline}error: {exc.code}: {exc.message}", file=sys.stderr)
        return 1
    print(json.dumps(result.to_json(), indent=2) if arguments.json else _summary(result))
    return 0


def _in_child() -> int:
    """Run the command in a child process, and report the signal if one killed it."""
    child = subprocess.Popen(
        [sys.executable, "-m", "exporters", *sys.argv[1:]], env={**os.environ, _CHILD: "1"}
    )
    try:
        status = child.wait()
    except KeyboardInterrupt:
        child.wait()
        return 130
    if status >= 0:
        return status
    name = signal.Signals(-status).name
    print(
        f"error: conversion_failed: The converter was ended by {name}: its native code crashed, or "
        "the system stopped it because the memory was full. Try another format or converter, or "
        "more memory.",
        file=sys.stderr,
    )
    return 128 - status


def _option(item: str) -> tuple[str, Any]:
    name, equals, value = item.partition("=")
    if equals:
        try:
            return name, json.loads(value)
        except ValueError:
            pass
    raise UnsupportedOption(
        f"--option {item} is not of the form NAME=JSON, like opset_version=18.", allowed=None
    )


def _summary(result: ExportResult) -> str:
    outputs = result.fidelity["outputs"].values()
    difference = max((output["max_abs"] or 0.0 for output in outputs), default=0.0)
    found = f"the largest difference from the source is {difference:.1e}"
    speed = ""
    if result.performance:
        speed = ", {inference_latency_ms:.3f} ms, batch {batch_size}".format(**result.performance)
    return (
        f"{result.verdict}: {found if outputs else result.fidelity['reason']}\n"
        f"{result.artefact}: {result.artefact_size_bytes:,} bytes{speed}\n"
        f"{result.package_dir}: the package, which python -m exporters verify checks"
    )


def _display(step: str, percent: float, message: str) -> None:
    """Print a progress bar on a terminal, otherwise a line for each step."""
    if not sys.stderr.isatty():
        print(f"{percent:3.0f} %  {message}", file=sys.stderr)
        return
    done = round(percent / 100 * _BAR_WIDTH)
    bar = "█" * done + "░" * (_BAR_WIDTH - done)
    room = max(0, shutil.get_terminal_size().columns - _BAR_WIDTH - 9)
    end = "\n" if step == "done" else ""
    print(f"\r\x1b[K{bar} {percent:3.0f} %  {message[:room]}", end=end, file=sys.stderr, flush=True)


def _capabilities(arguments: argparse.Namespace) -> int:
    from . import imports, optimize, registry

    found = imports.failures(registry.modules())
    formats = []
    for spec in registry.specifications():
        reason = registry.why_unavailable(spec.name, found=found)
        kinds = registry.kinds(spec.name)
        known = {"available": reason is None, "reason": reason, "optimization": optimize.describe(spec.name)}
        formats.append({**spec.to_json(), "sources": kinds, **known})
    print(json.dumps({"formats": formats}, indent=2))
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    import tempfile

    from . import package, runners
    from .proof import golden

    path: Path = arguments.package
    try:
        with tempfile.TemporaryDirectory() as scratch:
            if not path.exists():
                raise PackageCorrupt(f"There is no package {path}.")
            if path.is_dir():
                folder = path
            else:
                folder = Path(scratch) / "package"
                package.unpack(path, folder)
            package.verify(folder)
            wrong = golden.replay(folder, runners.load(folder))
    except runners.NotExecutable as exc:
        print(f"The package is complete. Its golden inputs were not run: {exc}")
        return 0
    except (ExportError, OSError) as exc:
        print(f"{exc}", file=sys.stderr)
        return 1
    if wrong:
        print(f"The outputs for the golden inputs differ here: {', '.join(wrong)}.", file=sys.stderr)
        return 1
    print("The package is complete, and its outputs for the golden inputs are those of the source model.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
