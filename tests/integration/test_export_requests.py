"""Every export request that the design documents show, as it stands; ids are put in for the placeholders."""

from typing import Any

import pytest
from flask.testing import FlaskClient

JOBS = "/api/v1/export/jobs"
MOBILE = {"minimum_deployment_target": "iOS15", "compute_units": "all"}
STATIC = {"method": "static", "dtype": "qint8", "calibration_dataset_id": "dataset-uuid"}
RESPONSE_FIELDS = {
    *("id", "user_id", "training_job_id", "version", "version_tag", "is_default", "trace_id"),
    *("callback_token", "process_id", "export_format", "framework", "task_type", "checkpoint_path"),
    *("export_config", "optimization_config", "validation_config", "status", "progress_percent"),
    *("exported_model_path", "export_package_path", "model_size_bytes", "optimization_stats"),
    *("validation_metrics", "created_at", "started_at", "completed_at", "updated_at", "error_message"),
}


@pytest.fixture
def uploaded(http: FlaskClient, model_id: str) -> str:
    assert http.post(f"/api/v1/models/{model_id}/upload", data=b"some bytes").status_code == 201
    return model_id


def ask(http: FlaskClient, uploaded: str, body: dict[str, Any]) -> Any:
    return http.post(JOBS, json={"model_id": uploaded, **body})


FORMATS: list[dict[str, Any]] = [
    {
        "format": "onnx",
        "opset_version": 17,
        "dynamic_axes": {"input": [0, 2, 3], "output": [0]},
        "optimize_for_inference": True,
    },
    {"format": "tensorrt", "precision": "fp16", "max_batch_size": 32, "workspace_size_gb": 4},
    {"format": "coreml", **MOBILE},
    {
        "format": "openvino",
        "precision": "FP16",
        "model_optimizer_args": {"data_type": "FP16", "reverse_input_channels": True},
    },
    {"format": "torchscript", "method": "trace", "optimize_for_mobile": False},
]


@pytest.mark.parametrize("config", FORMATS, ids=lambda config: config["format"])
@pytest.mark.parametrize("beside", [True, False])
def test_the_configuration_of_each_format(
    http: FlaskClient, uploaded: str, config: dict[str, Any], beside: bool
) -> None:
    """With the format in the configuration alone, and beside it too."""
    body = {"export_config": config} | ({"export_format": config["format"]} if beside else {})
    answer = ask(http, uploaded, body)
    assert answer.status_code == 202, answer.text
    assert answer.json.keys() >= RESPONSE_FIELDS
    assert (answer.json["export_format"], answer.json["status"]) == (config["format"], "pending")
    sent = {name: value for name, value in config.items() if name != "format"}
    assert answer.json["export_config"].items() >= sent.items()


def test_a_format_may_have_its_short_name(http: FlaskClient, uploaded: str) -> None:
    assert ask(http, uploaded, {"format": "onnx"}).json["export_format"] == "onnx"


@pytest.mark.parametrize(
    "body",
    [
        {"export_format": "onnx", "export_config": {"format": "tflite"}},
        {"export_format": "onnx", "format": "onnx"},
        {
            "export_format": "onnx",
            "validation_config": {},
            "export_config": {"validation": {"enabled": True}},
        },
    ],
)
def test_two_names_of_one_field_are_refused_by_both(
    http: FlaskClient, uploaded: str, body: dict[str, Any]
) -> None:
    answer = ask(http, uploaded, body)
    assert (answer.status_code, answer.json["error"]["code"]) == (422, "invalid_field")
    assert "send one of them" in answer.json["error"]["message"]


def test_the_platform_hosted_use_case(http: FlaskClient, uploaded: str) -> None:
    body = {
        "export_format": "onnx",
        "export_config": {
            "opset_version": 17,
            "dynamic_axes": {"input": [0]},
            "embed_preprocessing": True,
        },
    }
    answer = ask(http, uploaded, body)
    assert answer.status_code == 202
    assert answer.json["export_config"]["embed_preprocessing"] is True


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        # The mobile application.
        (
            {
                "export_format": "coreml",
                "export_config": MOBILE,
                "optimization_config": {"quantization": STATIC},
                "validation_config": {
                    "enabled": True,
                    "dataset_id": "validation-dataset-uuid",
                    "fail_threshold": {"accuracy_drop_max": 0.02},
                },
            },
            "unsupported_option",
            "only on macOS",
        ),
        (
            {
                "export_format": "onnx",
                "optimization": {"quantization": STATIC | {"calibration_samples": 100}},
            },
            "invalid_field",
            "optimization_config.quantization.calibration_dataset_id",
        ),
        (
            {
                "export_format": "onnx",
                "export_config": {
                    "validation": {
                        "enabled": True,
                        "dataset_id": "validation-dataset-uuid",
                        "metrics": ["accuracy", "mAP50-95"],
                        "fail_threshold": {"accuracy_drop_max": 0.02},
                    }
                },
            },
            "invalid_field",
            "validation_config.dataset_id",
        ),
    ],
)
def test_what_cannot_be_done_is_named_before_any_work(
    http: FlaskClient, uploaded: str, body: dict[str, Any], code: str, message: str
) -> None:
    answer = ask(http, uploaded, body)
    assert (answer.status_code, answer.json["error"]["code"]) == (422, code)
    assert message in answer.json["error"]["message"]


@pytest.mark.parametrize(
    "optimization",
    [
        {"quantization": {"method": "dynamic", "dtype": "qint8"}},
        {"pruning": {"method": "structured", "sparsity": 0.5, "pruning_schedule": "iterative"}},
    ],
)
def test_an_optimization_in_the_short_form(
    http: FlaskClient, uploaded: str, optimization: dict[str, Any]
) -> None:
    answer = ask(http, uploaded, {"export_format": "onnx", "optimization": optimization})
    assert answer.status_code == 202, answer.text
    ((section, fields),) = optimization.items()
    stored = answer.json["optimization_config"][section]
    assert {name: stored[name] for name in fields} == fields


@pytest.mark.parametrize(
    ("config", "option"),
    [
        ({"quantization": "dynamic", "supported_ops": ["SELECT_TF_OPS"]}, "supported_ops"),
        # The Raspberry Pi, without calibration data.
        ({"quantization": "full_integer", "supported_ops": ["TFLITE_BUILTINS"]}, "quantization"),
    ],
)
def test_tflite_says_what_it_cannot(
    http: FlaskClient, uploaded: str, config: dict[str, Any], option: str
) -> None:
    answer = ask(http, uploaded, {"export_format": "tflite", "export_config": config})
    assert (answer.status_code, answer.json["error"]["code"]) == (422, "unsupported_option")
    assert answer.json["error"]["details"]["option"] == option


def test_a_validation_that_is_switched_off(http: FlaskClient, uploaded: str) -> None:
    off = {"enabled": False, "dataset_id": "uuid", "fail_threshold": {"accuracy_drop_max": 0.02}}
    for validation in ({"enabled": False}, off):
        answer = ask(http, uploaded, {"export_format": "onnx", "validation_config": validation})
        assert answer.status_code == 202
        assert answer.json["validation_config"] == validation


CLASSES = [{"id": 0, "name": "person"}, {"id": 1, "name": "bicycle"}, {"id": 2, "name": "car"}]


@pytest.mark.parametrize("classes", [CLASSES, CLASSES[::-1], [each["name"] for each in CLASSES]])
def test_classes_with_ids_are_the_names_in_their_order(
    http: FlaskClient, uploaded: str, classes: list[Any], database: Any
) -> None:
    body = {"export_format": "onnx", "export_config": {"classes": classes}}
    answer = ask(http, uploaded, body)
    assert answer.status_code == 202, answer.text
    stored = database.export_jobs.find_one({"_id": answer.json["id"]})
    assert stored["processing"]["classes"] == ["person", "bicycle", "car"]


@pytest.mark.parametrize(
    "classes",
    [
        [{"id": 1, "name": "a"}],
        [{"id": 0, "name": "a"}, {"id": 0, "name": "b"}],
        [{"id": 0}],
        [{"id": 0, "name": "a", "colour": "red"}],
        [{"id": True, "name": "a"}],
        [{"id": [], "name": "a"}],
        [{"id": 0, "name": 7}],
        ["a", {"id": 1, "name": "b"}],
        {"0": "a"},
    ],
)
def test_other_lists_of_classes_are_refused(http: FlaskClient, uploaded: str, classes: Any) -> None:
    answer = ask(http, uploaded, {"export_format": "onnx", "export_config": {"classes": classes}})
    assert (answer.status_code, answer.json["error"]["code"]) == (422, "unsupported_option")
    assert answer.json["error"]["details"]["option"] == "classes"


def test_the_processing_of_the_metadata_document(http: FlaskClient, uploaded: str) -> None:
    processing = {
        "preprocessing": {
            "resize": {"method": "letterbox", "size": [640, 640], "fill_value": 114, "stride": 32},
            "normalize": {"method": "standard", "mean": [0.0, 0.0, 0.0], "std": [255.0, 255.0, 255.0]},
            "format": {
                "input_layout": "HWC",
                "output_layout": "NCHW",
                "color_space": "RGB",
                "dtype": "float32",
            },
        },
        "postprocessing": {
            "nms": {
                "enabled": True,
                "iou_threshold": 0.45,
                "confidence_threshold": 0.25,
                "max_detections": 300,
            },
            "output_format": {"bbox_format": "xyxy", "coordinates": "absolute"},
        },
        "classes": CLASSES,
    }
    answer = ask(http, uploaded, {"export_format": "onnx", "export_config": processing})
    assert answer.status_code == 202, answer.text
