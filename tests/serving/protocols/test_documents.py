"""What the Open Inference Protocol tells about servers and models, in Triton's words."""

from exporters.base import TensorSpec
from model_service.serving.protocols.oip import documents
from model_service.serving.protocols.oip.documents import Statistics, Timing

INPUTS = (TensorSpec("x", "float32", ("batch", 3, 224, "width")), TensorSpec("n", "int64", ("batch",)))
OUTPUTS = (TensorSpec("y", "float16", ("batch", 1000)), TensorSpec("label", "tensor(string)", ("batch",)))


def test_a_server_names_its_extensions() -> None:
    answer = documents.server("model-service", "0.1.0")
    assert (answer["name"], answer["version"]) == ("model-service", "0.1.0")
    assert {"binary_tensor_data", "classification", "statistics"} <= set(answer["extensions"])


def test_a_models_dynamic_axes_are_minus_one() -> None:
    assert documents.model("m", ["v1.0", "v1.1"], "onnx", INPUTS, OUTPUTS) == {
        "name": "m",
        "versions": ["v1.0", "v1.1"],
        "platform": "onnxruntime_onnx",
        "inputs": [
            {"name": "x", "datatype": "FP32", "shape": [-1, 3, 224, -1]},
            {"name": "n", "datatype": "INT64", "shape": [-1]},
        ],
        "outputs": [
            {"name": "y", "datatype": "FP16", "shape": [-1, 1000]},
            {"name": "label", "datatype": "BYTES", "shape": [-1]},
        ],
    }


def test_a_configuration_leaves_the_batch_out_of_the_dimensions() -> None:
    answer = documents.config("m", "onnx", INPUTS, OUTPUTS, max_batch_size=16, max_delay_ms=2.5)
    assert (answer["name"], answer["platform"], answer["backend"]) == ("m", "onnxruntime_onnx", "onnxruntime")
    assert answer["max_batch_size"] == 16
    assert answer["dynamic_batching"] == {"max_queue_delay_microseconds": 2500}
    assert [each["dims"] for each in answer["input"]] == [[3, 224, -1], []]
    assert [each["data_type"] for each in answer["output"]] == ["TYPE_FP16", "TYPE_STRING"]


def test_a_model_without_a_batch_axis_takes_no_batches() -> None:
    fixed = (TensorSpec("x", "float32", (1, 3)),)
    answer = documents.config("m", "edge", fixed, OUTPUTS, max_batch_size=16)
    assert (answer["platform"], answer["backend"], answer["max_batch_size"]) == ("edge", "edge", 0)
    assert answer["input"][0]["dims"] == [1, 3]
    assert "dynamic_batching" not in answer


def test_statistics_count_what_they_were_given() -> None:
    given = Statistics(
        "m",
        "v1.0",
        last_inference_ms=1_700_000_000_000,
        inferences=5,
        executions=3,
        success=Timing(4, 900),
        fail=Timing(1, 100),
        batches={2: Timing(2, 500), 1: Timing(1, 300)},
    )
    (answer,) = documents.statistics([given])["model_stats"]
    assert (answer["inference_count"], answer["execution_count"]) == (5, 3)
    assert answer["last_inference"] == 1_700_000_000_000
    assert answer["inference_stats"]["success"] == {"count": 4, "ns": 900}
    assert answer["inference_stats"]["fail"] == {"count": 1, "ns": 100}
    assert [each["batch_size"] for each in answer["batch_stats"]] == [1, 2]
    assert answer["batch_stats"][1]["compute_infer"] == {"count": 2, "ns": 500}


def test_a_repository_lists_versions() -> None:
    assert documents.repository([("m", "v1.0", "READY", "")]) == [
        {"name": "m", "version": "v1.0", "state": "READY", "reason": ""}
    ]
