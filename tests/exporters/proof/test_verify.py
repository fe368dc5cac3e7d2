"""A wrong artefact is never called verified, whatever is wrong with it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from exporters import runners
from exporters.base import FAILED, VERIFIED, Arrays, Case, Labels
from exporters.convert import run
from exporters.errors import InvalidSource, VerificationFailed
from exporters.formats import torch_to_onnx
from exporters.proof import cases, verify
from exporters.request import ExportRequest
from exporters.sources import load

from ..conftest import Export
from ..models import SAMPLES, Mlp

RIGHT = np.array([[0.1, 0.7, 0.2], [0.3, 0.3, 0.4]], np.float32)


def judge(actual: np.ndarray, expected: np.ndarray = RIGHT) -> bool:
    fidelity = verify.compare([Case("one", {}, {"output": expected})], lambda inputs: {"output": actual})
    return fidelity["verdict"] == VERIFIED


def test_an_artefact_that_writes_to_its_inputs_does_not_change_the_case() -> None:
    def writes(inputs: Arrays) -> Arrays:
        inputs["x"] *= 2
        return {"output": inputs["x"]}

    case = Case("one", {"x": RIGHT / 2}, {"output": RIGHT})
    assert verify.compare([case], writes)["verdict"] == VERIFIED
    np.testing.assert_array_equal(case.inputs["x"], RIGHT / 2)


def test_rounding_is_accepted() -> None:
    assert judge(RIGHT * np.float32(1 + 1e-6))


@pytest.mark.parametrize(
    "actual",
    [
        RIGHT + np.float32(0.01),
        RIGHT[:, ::-1].copy(),
        RIGHT[:1],
        RIGHT.astype(np.float64),
        np.full_like(RIGHT, np.nan),
        np.full_like(RIGHT, np.inf),
        np.where(RIGHT[0, 1] == RIGHT, np.float32(np.nan), RIGHT),
        np.zeros_like(RIGHT),
    ],
    ids=["off", "permuted", "fewer rows", "other dtype", "all NaN", "all inf", "one NaN", "zero"],
)
def test_a_difference_is_found(actual: np.ndarray) -> None:
    assert not judge(actual)


def test_nothing_but_nan_proves_nothing_and_is_compared_beside_numbers() -> None:
    nothing = np.full((2, 2), np.nan, np.float32)

    def verdict(*pairs: tuple[np.ndarray, np.ndarray]) -> bool:
        answers = iter([actual for _, actual in pairs])
        asked = [Case("one", {}, {"output": expected}) for expected, _ in pairs]
        return verify.compare(asked, lambda inputs: {"output": next(answers)})["verdict"] == VERIFIED

    assert not verdict((nothing, nothing))
    assert verdict((RIGHT, RIGHT), (nothing, nothing))
    assert not verdict((RIGHT, RIGHT), (nothing, RIGHT[:, :2]))


def test_a_row_beside_huge_ones_is_not_measured_by_them() -> None:
    huge = np.array([[1e30], [2.0]], np.float32)
    cases = [Case("usual", {}, {"output": RIGHT}), Case("extremes", {}, {"output": huge})]

    def verdict(second: float) -> str:
        answers = iter([RIGHT, np.array([[1e30], [second]], np.float32)])
        return str(verify.compare(cases, lambda inputs: {"output": next(answers)})["verdict"])

    assert verdict(2.0001) == VERIFIED
    assert verdict(3.0) == FAILED


def test_small_numbers_are_compared_with_each_other_and_not_with_one() -> None:
    small = RIGHT * np.float32(1e-6)

    assert judge(small.copy(), small)
    assert not judge(np.zeros_like(small), small)


@pytest.mark.parametrize("layout", [(0, 1, 2), (0, 2, 1)], ids=["channels first", "channels last"])
@pytest.mark.parametrize("precision", [None, "float16"])
def test_a_detectors_scores_are_not_measured_by_its_boxes(
    layout: tuple[int, ...], precision: str | None
) -> None:
    random = np.random.default_rng(0)
    boxes, scores = random.uniform(0, 640, (2, 4, 200)), random.uniform(0, 1, (2, 8, 200))
    right = np.concatenate([boxes, scores], axis=1).astype(np.float32).transpose(layout)
    wrong = np.concatenate([boxes, np.zeros_like(scores)], axis=1).astype(np.float32).transpose(layout)
    near = right * np.float32(1 + 1e-5)

    def verdict(actual: np.ndarray) -> str:
        case = Case("one", {}, {"output0": right})
        return str(verify.compare([case], lambda inputs: {"output0": actual}, precision)["verdict"])

    assert (verdict(near), verdict(wrong)) == (VERIFIED, FAILED)


def test_nan_has_to_be_in_the_same_places() -> None:
    masked = np.array([[np.nan, 1.0, -np.inf]], np.float32)

    assert judge(masked.copy(), masked)
    assert not judge(np.array([[1.0, np.nan, -np.inf]], np.float32), masked)
    assert not judge(np.array([[np.nan, 1.0, np.inf]], np.float32), masked)


def test_nothing_but_nan_proves_nothing() -> None:
    nothing = np.full((2, 2), np.nan, np.float32)

    assert not judge(nothing.copy(), nothing)


def test_integers_are_compared_exactly() -> None:
    large = np.array([2**53, 7], np.int64)

    assert judge(large.copy(), large)
    assert not judge(large + np.array([1, 0]), large)


@pytest.mark.parametrize(
    ("answer", "accepted"),
    [
        ([3, 5, 9], True),
        ([5, 5, 9], True),  # the other one of the two that score best
        ([9, 5, 9], False),  # neither of them
        ([3, 3, 9], False),  # the scores of this row differ
        ([3, 5, 5], False),  # by more than their tolerance
    ],
)
def test_a_label_may_be_any_of_the_classes_that_score_best(answer: list[int], accepted: bool) -> None:
    scores = np.array([[0.5, 0.49999, 0.00001], [0.2, 0.7, 0.1], [0.1, 0.449, 0.451]], np.float32)
    case = Case("one", {}, {"probabilities": scores, "label": np.array([3, 5, 9])})

    def judged(labels: dict[str, Labels]) -> dict[str, Any]:
        actual = {"probabilities": scores, "label": np.array(answer)}
        return verify.compare([case, case], lambda inputs: actual, labels=labels)

    fidelity = judged({"label": Labels("probabilities", (3, 5, 9))})
    assert (fidelity["verdict"] == VERIFIED) is accepted
    assert [one["outputs"]["label"]["labels_not_judged"] for one in fidelity["cases"]] == [1, 1]
    assert fidelity["outputs"]["label"]["labels_not_judged"] == 2
    assert "labels_not_judged" not in fidelity["outputs"]["probabilities"]
    assert (judged({})["verdict"] == VERIFIED) is (answer == [3, 5, 9])


@pytest.mark.parametrize("scores", [[[0.4, 0.4, 0.2]], [[np.inf, 0.5, 0.5]]])
def test_a_label_that_its_scores_do_not_explain_is_judged(scores: list[list[float]]) -> None:
    expected: Arrays = {"scores": np.array(scores, np.float32), "label": np.array([2])}

    report = verify.compare_outputs(
        expected, expected | {"label": np.array([0])}, labels={"label": Labels("scores", (0, 1, 2))}
    )

    assert not report["label"]["passed"]
    assert "labels_not_judged" not in report["label"]


def test_every_label_is_judged_where_the_scores_are_not_of_its_classes() -> None:
    expected: Arrays = {"scores": np.array([[0.5, 0.5]], np.float32), "label": np.array([0])}
    labels = {"label": Labels("scores", (0, 1, 2))}

    report = verify.compare_outputs(expected, expected | {"label": np.array([1])}, labels=labels)

    assert not report["label"]["passed"]
    assert "labels_not_judged" not in report["label"]


def test_labels_of_another_dtype_or_shape_are_found_where_scores_tie() -> None:
    tie = np.array([[0.5, 0.5]], np.float32)
    expected: Arrays = {"scores": tie, "label": np.array([0])}
    labels = {"label": Labels("scores", (0, 1))}

    for wrong in (np.array([1.0]), np.array([1], np.int32), np.array([[1]]), np.array([1, 1])):
        report = verify.compare_outputs(expected, {"scores": tie, "label": wrong}, labels=labels)
        assert not report["label"]["passed"]


def test_a_missing_and_an_extra_output_are_found() -> None:
    expected: Arrays = {"a": RIGHT, "b": RIGHT}

    assert not verify.compare_outputs(expected, {"a": RIGHT})["b"]["passed"]
    assert not verify.compare_outputs({"a": RIGHT}, expected)["b"]["passed"]


def test_no_case_at_all_is_not_verified() -> None:
    assert verify.compare([], lambda inputs: {})["verdict"] == FAILED


def test_a_tampered_artefact_is_not_verified(
    checkpoint: Callable[[str], Path], exported: Export, tmp_path: Path
) -> None:
    """One weight of a real artefact, changed by a tenth."""
    model = onnx.load(exported(SAMPLES[0]).package_dir / "model.onnx")
    weight = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)
    changed = numpy_helper.to_array(weight).copy()
    changed[0, 0, 0, 0] += 0.1
    weight.CopyFrom(numpy_helper.from_array(changed, weight.name))
    onnx.save(model, tmp_path / "model.onnx")
    asked = cases.plan(load(checkpoint(SAMPLES[0].id), {}))

    fidelity = verify.compare(asked, runners.open_artefact("onnx", tmp_path / "model.onnx").predict)

    assert fidelity["verdict"] == FAILED


def test_an_artefact_that_froze_its_batch_is_not_verified(
    checkpoint: Callable[[str], Path], exported: Export, tmp_path: Path
) -> None:
    model = onnx.load(exported(SAMPLES[0]).package_dir / "model.onnx")
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 3
    onnx.save(model, tmp_path / "model.onnx")
    asked = cases.plan(load(checkpoint(SAMPLES[0].id), {}))

    fidelity = verify.compare(asked, runners.open_artefact("onnx", tmp_path / "model.onnx").predict)

    assert fidelity["verdict"] == FAILED
    assert fidelity["cases"][0]["passed"]
    assert "error" in fidelity["cases"][1]


def test_a_converter_that_is_wrong_fails_the_export_and_leaves_the_package(
    checkpoint: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every one of torch's exporters made wrong by a weight changed on the way to the file."""
    write = torch_to_onnx.onnx_file.write

    def corrupt(model: onnx.ModelProto, folder: Path, symbols: dict[str, str]) -> tuple[str, ...]:
        for tensor in model.graph.initializer:
            if tensor.data_type == onnx.TensorProto.FLOAT:
                tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + 1, tensor.name))
        return write(model, folder, symbols)

    monkeypatch.setattr(torch_to_onnx.onnx_file, "write", corrupt)

    with pytest.raises(VerificationFailed, match="does not behave like its source") as caught:
        run(ExportRequest(checkpoint("mlp-pt2"), tmp_path / "out", "onnx"))

    tried = caught.value.details["fidelity"]["converters_tried"]
    assert [(entry["converter"], entry["result"]) for entry in tried] == [
        ("dynamo", "failed"),
        ("torchscript", "failed"),
        ("torchscript-traced", "failed"),
    ]
    assert b'"verdict": "failed"' in (tmp_path / "out/fidelity.json").read_bytes()
    assert (tmp_path / "out/manifest.json").exists()


def test_the_second_converter_is_kept_when_the_first_is_wrong(
    checkpoint: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = torch_to_onnx.onnx_file.write

    def corrupt(model: onnx.ModelProto, folder: Path, symbols: dict[str, str]) -> tuple[str, ...]:
        for tensor in model.graph.initializer:
            if tensor.data_type == onnx.TensorProto.FLOAT and folder.name == "dynamo":
                tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + 1, tensor.name))
        return write(model, folder, symbols)

    monkeypatch.setattr(torch_to_onnx.onnx_file, "write", corrupt)

    result = run(ExportRequest(checkpoint("mlp-pt2"), tmp_path / "out", "onnx"))

    assert (result.verdict, result.converter) == ("verified", "torchscript")


def test_sample_inputs_are_compared_too(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    np.savez(tmp_path / "samples.npz", x=np.ones((5, 6), np.float32))
    request = ExportRequest(
        checkpoint("mlp-pt2"), tmp_path / "out", "onnx", sample_inputs=tmp_path / "samples.npz"
    )

    last = run(request).fidelity["cases"][-1]

    assert (last["case"], last["input_shapes"]) == ("samples", {"x": [5, 6]})


def test_sample_inputs_that_do_not_fit_say_what_does(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    np.savez(tmp_path / "samples.npz", y=np.ones((5, 6), np.float32))
    request = ExportRequest(
        checkpoint("mlp-pt2"), tmp_path / "out", "onnx", sample_inputs=tmp_path / "samples.npz"
    )

    with pytest.raises(InvalidSource, match="must contain 'x' as float32"):
        run(request)


def test_a_model_with_random_answers_cannot_be_proven(tmp_path: Path) -> None:
    class Noisy(Mlp):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layers(x) + torch.rand_like(x[:, :3])

    torch.export.save(torch.export.export(Noisy().eval(), (torch.randn(2, 6),)), tmp_path / "model.pt2")

    with pytest.raises(InvalidSource, match="different 'output' for the same inputs each time"):
        run(ExportRequest(tmp_path / "model.pt2", tmp_path / "out", "onnx"))


def test_a_small_row_beside_a_huge_one_is_judged_by_its_own_size() -> None:
    """Of every case but the first: usual rows are what the first has."""
    base = Case("base", {}, {"output": np.array([[1.0, 2.0], [3.0, 1.0]], np.float32)})
    expected = np.array([[1.0, 2.0], [1e5, 3e5]], np.float32)
    beside = Case("typical", {}, {"output": expected}, "typical")
    wrong = expected + np.array([[0.5, 0.0], [0.0, 0.0]], np.float32)
    answers = iter([base.expected["output"], wrong])

    fidelity = verify.compare([base, beside], lambda inputs: {"output": next(answers)})

    assert fidelity["verdict"] == FAILED


def test_a_sum_near_zero_is_judged_by_a_usual_row() -> None:
    base = Case("base", {}, {"output": np.array([[1.0], [-2.0]], np.float32)})
    near = Case("typical", {}, {"output": np.array([[1e-7]], np.float32)}, "typical")
    answers = iter([base.expected["output"], np.array([[3e-7]], np.float32)])

    fidelity = verify.compare([base, near], lambda inputs: {"output": next(answers)})

    assert fidelity["verdict"] == VERIFIED


def test_a_column_beside_one_of_a_larger_unit_is_judged_by_its_own() -> None:
    """A category, one of three columns, beside an income."""
    rows = np.array([[1, 0, 0, 71_000.5], [0, 1, 0, 52_000], [0, 0, 1, 1e6]], np.float32)
    wrong = rows[:, [1, 0, 2, 3]]
    case = Case("base", {}, {"variable": rows})

    def verdict(units: frozenset[str]) -> str:
        return str(verify.compare([case], lambda inputs: {"variable": wrong}, units=units)["verdict"])

    assert verdict(frozenset({"variable"})) == FAILED
    assert verdict(frozenset()) == VERIFIED
