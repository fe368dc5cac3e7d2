"""What ``exports get`` and ``exports capabilities`` show, at the widths of terminals."""

from dataclasses import asdict
from typing import Any

import pytest
from rich.console import Console, RenderableType

from exporters import registry
from exporters.base import FAMILIES
from model_service.cli.common.tables import sizes
from model_service.cli.exports.views import job_record, matrix, of_framework
from model_service.client import ExportJob, FormatCapability
from model_service.services.exports.capabilities import CapabilityService

NO_GPU = "tensorrt needs tensorrt: pip install 'model-service[tensorrt]', on a machine with an NVIDIA GPU."


class Workers:
    """One that makes everything but TensorRT's engines."""

    def reports(self) -> list[dict[str, Any]]:
        formats = {
            spec.name: {
                FAMILIES[kind]: NO_GPU if spec.name == "tensorrt" else None
                for kind in registry.kinds(spec.name)
            }
            for spec in registry.specifications()
        }
        return [{"digest": "d", "formats": formats}]


def capabilities() -> dict[str, dict[str, FormatCapability]]:
    service = CapabilityService(Workers())  # type: ignore[arg-type]
    return {
        each.framework: {
            name: FormatCapability.from_json(asdict(found)) for name, found in each.formats.items()
        }
        for each in service.all()
    }


def shown(width: int, *parts: RenderableType) -> list[str]:
    console = Console(width=width, markup=False, highlight=False, color_system=None)
    with console.capture() as captured:
        for part in parts:
            console.print(part, soft_wrap=True)
    lines = captured.get().splitlines()
    assert max(map(len, lines)) <= width
    return lines


@pytest.mark.parametrize("width", [80, 100])
def test_all_capabilities_are_seen_at_a_glance(width: int) -> None:
    lines = shown(width, *matrix(capabilities()))
    head, _, *rows = (line.split() for line in lines)
    assert head == [spec.name for spec in registry.specifications()]
    cells = {row[0]: dict(zip(head, row[1:], strict=False)) for row in rows if row}
    assert (cells["sklearn"]["onnx"], cells["sklearn"]["tflite"]) == ("yes", "-")
    assert (cells["timm"]["tensorrt"], cells["timm"]["openvino"]) == ("off", "yes")
    assert " ".join(" ".join(lines).split()).endswith(f"tensorrt {NO_GPU}")  # the reason, once


@pytest.mark.parametrize("width", [80, 100])
def test_those_of_one_framework_have_a_line_each(width: int) -> None:
    lines = shown(width, *of_framework(capabilities()["sklearn"]))
    assert [line.split()[0] for line in lines[2:4]] == ["onnx", "pickle"]
    assert "not possible" in lines[5]
    assert "tflite" in " ".join(lines[5:])


WORST = {"case": "base", "output": "scores", "max_abs": 2e-6, "share_of_tolerance": 0.012, "source": 0.5}


@pytest.mark.parametrize("width", [80, 100])
def test_an_export_shows_its_outputs_differences_latency_options_and_sizes(width: int) -> None:
    job = ExportJob.from_json(
        {
            "id": "j1",
            "status": "completed",
            "export_format": "onnx",
            "export_config": {"opset_version": 18, "inputs": None, "precision": "float16"},
            "fidelity": {
                "verdict": "verified",
                "precision": None,
                "tolerance": {"float32": {"rtol": 1e-3, "atol": 1e-4, "reason": "sums in another order"}},
                "probes": {
                    "base": {"cases": 1, "rows": 3, "passed": True, "worst": WORST},
                    "missing": {"cases": 1, "rows": 64, "passed": True, "worst": WORST},
                },
                "outputs": {
                    "scores": {"max_abs": 2e-6, "max_rel": 1e-4, "top1_agreement": 1.0, "passed": True}
                },
            },
            "inputs": [{"name": "x", "dtype": "float32", "shape": ["batch", 3]}],
            "outputs": [{"name": "scores", "dtype": "float32", "shape": ["batch", 10]}],
            "performance": {"inference_latency_ms": 3.21, "throughput_fps": 311.5},
            "optimization_stats": {"original_size_mb": 440.123},
            "model_size_bytes": 220_000_000,
            "export_package_size_bytes": 900_000,
        }
    )
    text = " ".join(" ".join(shown(width, job_record(job))).split())
    assert 'options opset_version=18 precision="float16"' in text
    assert "scores float32[batch, 10] max diff 2e-06, relative 0.0001, same label 100%" in text
    assert "base 1 cases, 3 rows, max diff 2e-06, 1.2% of the tolerance" in text
    assert "missing 1 cases, 64 rows, max diff 2e-06" in text
    assert "tolerance float32 rtol 0.001, atol 0.0001 of the largest number: sums in another order" in text
    assert "latency 3.21 ms, 311.5 inputs/s, on the worker" in text
    assert "source 440.12 MB artefact 220.00 MB package 0.90 MB" in text


def test_a_failed_search_for_a_recipe_shows_its_table() -> None:
    measured = {"metric": "accuracy", "drop": 0.021, "interval": [0.01, 0.03], "size_bytes": 250_000}
    table = [
        {
            "recipe": "float16",
            "outcome": "dropped",
            "reason": "too slow",
            "p50_ms": 0.25,
            "speedup": 0.99,
            **measured,
        },
        {"recipe": "qat", "outcome": "not_tried", "reason": "needs training data"},
    ]
    job = ExportJob.from_json(
        {
            "id": "j1",
            "status": "failed",
            "error_code": "goal_not_reached",
            "error_message": "No recipe reaches the goal.",
            "optimization_stats": {"chosen": None, "table": table},
        }
    )
    text = " ".join(" ".join(shown(100, job_record(job))).split())
    assert "recipes float16 dropped, accuracy drops by 0.021 (0.01 to 0.03), 250.00 kB, 0.25 ms, 0.99" in text
    assert "times as fast: too slow" in text
    assert "qat not_tried: needs training data" in text


def test_sizes_have_one_unit() -> None:
    assert sizes(1_500_000_000, 2_000_000, None) == ["1.50 GB", "0.00 GB", ""]
    assert sizes(10, 999) == ["10 B", "999 B"]
    assert sizes(None) == [""]
