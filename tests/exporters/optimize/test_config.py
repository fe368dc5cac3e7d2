"""A configuration is checked before a job starts, without a framework."""

import subprocess
import sys
from typing import Any

import pytest

from exporters import optimize, registry
from exporters.errors import UnsupportedOption
from exporters.optimize.registry import techniques

STATIC = {"method": "static", "calibration_dataset_id": "data"}
ZEROS = {"method": "unstructured", "sparsity": 0.5}
TAUGHT = {"teacher_model_id": "nets/v1.0", "training_dataset_id": "rows/v1.0"}


def test_it_needs_the_standard_library_only() -> None:
    code = (
        "import sys; from exporters import optimize; before = set(sys.modules);"
        f"optimize.check('onnx', {{'quantization': {STATIC!r}}}); optimize.describe('tflite');"
        "print(sorted({name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.append('.');{code}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["['__main__',", "'exporters']"], done.stderr


def test_the_seeds_requests_are_completed() -> None:
    given = {
        "quantization": {
            "method": "static",
            "dtype": "qint8",
            "calibration_dataset_id": "dataset-uuid",
            "calibration_samples": 100,
        }
    }
    assert optimize.check("onnx", given) == {
        "quantization": {
            **given["quantization"],
            "per_channel": True,
            "calibration_method": "minmax",
            "keep_float": [],
        }
    }
    pruning = {"method": "structured", "sparsity": 0.5, "pruning_schedule": "iterative"}
    assert optimize.check("onnx", {"pruning": pruning}) == {"pruning": {**pruning, "steps": 5}}
    assert optimize.check("onnx", {"quantization": {"method": "dynamic", "dtype": "qint8"}})
    assert optimize.check("onnx", None) == optimize.check("onnx", {}) == {}


@pytest.mark.parametrize(
    "config",
    [
        {"quantization": STATIC, "pruning": {"method": "structured", "sparsity": 0.5}},
        {"distillation": TAUGHT, "pruning": {**ZEROS, "training_dataset_id": "rows/v1.0"}},
        {"pruning": {**ZEROS, "epochs": 2}, "training": {"path": "rows.npz", "format": "npz"}},
    ],
)
def test_a_complete_configuration_is_complete(config: dict[str, Any]) -> None:
    complete = optimize.check("onnx", config)
    assert optimize.check("onnx", complete) == complete


def test_a_pruning_is_trained_if_it_is_asked_for() -> None:
    training = {"path": "rows.npz", "format": "npz"}
    plain = optimize.check("onnx", {"pruning": ZEROS, "training": training})
    assert "epochs" not in plain["pruning"]
    trained = optimize.check("onnx", {"pruning": {**ZEROS, "training_dataset_id": "rows/v1.0"}})
    assert trained["pruning"]["epochs"] == 3


@pytest.mark.parametrize(
    ("format_name", "config", "options", "message"),
    [
        (
            "onnx",
            {"quantisation": {}},
            {},
            "has no 'quantisation'; it has pruning, distillation, quantization",
        ),
        ("onnx", {"quantization": "static"}, {}, "must be an object with a method"),
        ("onnx", {"quantization": {}}, {}, "needs a method, one of dynamic, static"),
        ("onnx", {"quantization": {"method": "int3"}}, {}, "needs a method, one of dynamic, static"),
        ("onnx", {"quantization": {"method": "static"}}, {}, "needs calibration data"),
        ("onnx", {"quantization": {**STATIC, "dtype": "int4"}}, {}, "dtype must be one of qint8, quint8"),
        (
            "onnx",
            {"quantization": {**STATIC, "samples": 5}},
            {},
            "static quantization has no option 'samples'",
        ),
        ("onnx", {"quantization": {**STATIC, "keep_float": "head"}}, {}, 'an array, or "auto"'),
        ("onnx", {"quantization": {**STATIC, "keep_float": [1]}}, {}, "a list of names of layers"),
        ("onnx", {"quantization": {"method": "qat", "epochs": 0}}, {}, "epochs must be an integer from 1"),
        (
            "onnx",
            {"quantization": {"method": "qat", "calibration_dataset_id": "rows/v1.0"}},
            {},
            "needs training data: give training_dataset_id",
        ),
        ("onnx", {"quantization": {"method": "bfloat16"}}, {}, "Use float16"),
        ("onnx", {"distillation": {}}, {}, "distillation needs training data: give training_dataset_id"),
        (
            "onnx",
            {"distillation": {"training_dataset_id": "rows/v1.0"}},
            {},
            "needs a teacher: give teacher_model_id, a stored model version",
        ),
        ("onnx", {"distillation": {**TAUGHT, "alpha": 0}}, {}, "alpha must be a number from 0.01 to 1"),
        ("onnx", {"distillation": {**TAUGHT, "temperature": 0}}, {}, "temperature must be a number from 0.1"),
        (
            "onnx",
            {"distillation": {**TAUGHT, "teacher_config": {"opset": 3}}},
            {},
            "teacher_config has no option 'opset'",
        ),
        ("pickle", {"distillation": TAUGHT}, {}, "Only networks of torch"),
        (
            "onnx",
            {"distillation": {**TAUGHT, "teacher_config": {"inputs": ["x"]}}},
            {},
            "an object with a shape",
        ),
        (
            "onnx",
            {
                "distillation": TAUGHT,
                "quantization": {**STATIC, "method": "qat", "training_dataset_id": "rows/v1.0"},
            },
            {},
            "cannot be followed by qat",
        ),
        (
            "onnx",
            {
                "pruning": {
                    "method": "structured",
                    "sparsity": 0.5,
                    "pruning_schedule": "iterative",
                    "steps": 21,
                    "training_dataset_id": "rows/v1.0",
                }
            },
            {},
            "at most 20 steps",
        ),
        (
            "onnx",
            {"distillation": TAUGHT, "pruning": {**ZEROS, "training_dataset_id": "others/v1.0"}},
            {},
            "an export trains on one dataset",
        ),
        ("onnx", {"pruning": {**ZEROS, "epochs": 3}}, {}, "epochs needs training data"),
        (
            "onnx",
            {
                "pruning": {
                    **ZEROS,
                    "pattern": "2:4",
                    "pruning_schedule": "iterative",
                    "training_dataset_id": "rows/v1.0",
                }
            },
            {},
            "A pattern is pruned in one step",
        ),
        ("onnx", {"optimize": "quantize_int8"}, {}, 'optimize must be "auto"'),
        ("onnx", {"goal": {}}, {}, 'optimize must be "auto"'),
        ("onnx", {"optimize": "auto", "quantization": STATIC}, {}, "remove quantization, or optimize"),
        ("onnx", {"optimize": "auto", "goal": "small"}, {}, "goal must be an object"),
        ("onnx", {"optimize": "auto", "goal": {"max_accuracy_drop": 2}}, {}, "a number from 0.0 to 1.0"),
        ("onnx", {"optimize": "auto", "goal": {"maximize": "speed"}}, {}, "no option 'maximize'"),
        ("onnx", {"optimize": "auto", "calibration_dataset_id": 5}, {}, "must be a string"),
        (
            "coreml",
            {"optimize": "auto"},
            {},
            "Apple.*coreml, .*Use one of onnx, openvino",
        ),
        ("pickle", {"optimize": "auto"}, {}, "pickle has no recipe"),
        ("tflite", {"optimize": "auto"}, {"quantization": "full_integer"}, "no recipe to try. dynamic: dyn"),
        ("pt2", {"quantization": STATIC}, {}, "supported for onnx, openvino, tflite"),
        ("coreml", {"quantization": STATIC}, {}, "only on macOS"),
        ("tflite", {"quantization": {**STATIC, "per_channel": False}}, {}, "only to onnx"),
        ("tflite", {"quantization": STATIC}, {"quantization": "dynamic"}, "with quantization=dynamic"),
        ("tflite", None, {"quantization": "full_integer"}, "full_integer needs calibration data"),
        ("openvino", {"quantization": {"method": "float16"}}, {"precision": "INT8"}, "precision=INT8"),
        ("openvino", {"quantization": STATIC}, {"precision": "FP16"}, "precision=FP16"),
        ("onnx", {"pruning": {"method": "structured"}}, {}, "needs sparsity"),
        ("onnx", {"pruning": {"method": "structured", "sparsity": 1}}, {}, "a number from 0.01 to 0.99"),
        ("onnx", {"pruning": {**ZEROS, "pattern": "4:2"}}, {}, "N less than M"),
        ("onnx", {"pruning": {**ZEROS, "sparsity": 0.9, "pattern": "2:4"}}, {}, "the sparsity 0.5"),
        (
            "onnx",
            {"pruning": {**ZEROS, "pruning_schedule": "iterative"}},
            {},
            "zeroes the same weights",
        ),
        ("pickle", {"pruning": {"method": "structured", "sparsity": 0.5}}, {}, "Only networks of torch"),
        (
            "coreml",
            {"quantization": {"method": "dynamic"}},
            {},
            "minimum_deployment_target=iOS15. Use one of iOS16",
        ),
        (
            "coreml",
            {"quantization": {"method": "palettization", "bits": 5}},
            {},
            "bits must be one of 1, 2, 3",
        ),
        ("gif", None, {}, "no export format 'gif'"),
    ],
)
def test_what_is_not_supported_is_rejected_with_the_reason(
    format_name: str, config: dict[str, Any] | None, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UnsupportedOption, match=message):
        optimize.check(format_name, config, options)


@pytest.mark.parametrize("format_name", [spec.name for spec in registry.specifications()])
def test_every_technique_is_supported_or_says_why_not(format_name: str) -> None:
    described = optimize.describe(format_name)
    for section, methods in techniques().items():
        for method, technique in methods.items():
            reason = technique.why_not(format_name)
            assert described[section][method]["supported"] == (reason is None)
            if reason is not None:
                assert reason[0].isupper() or reason.startswith(format_name), reason
                assert reason.endswith("."), reason
