"""What fidelity.json says about each class of probes."""

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.tree import DecisionTreeRegressor

from exporters import package, wrappers
from exporters.base import Arrays, Case
from exporters.convert import run
from exporters.errors import VerificationFailed
from exporters.formats import onnx_trees
from exporters.proof import verify
from exporters.request import ExportRequest

from ..wrappers.declarations import DECLARATIONS


def row(value: float, kind: str) -> Case:
    array = np.array([[1.0, value]], np.float32)
    return Case(f"{kind} of {value}", {"x": array}, {"y": array * 2}, kind)


def wrong_when_missing(inputs: Arrays) -> Arrays:
    return {"y": np.where(np.isnan(inputs["x"]), 7, inputs["x"] * np.float32(2.00001)).astype(np.float32)}


def test_each_class_has_its_counts_and_its_worst_element() -> None:
    cases = [row(1, "base"), row(3, "zero"), row(2, "zero"), row(np.nan, "missing")]

    probes = verify.compare(cases, wrong_when_missing)["probes"]

    assert {name: (one["cases"], one["rows"], one["passed"]) for name, one in probes.items()} == {
        "base": (1, 1, True),
        "zero": (2, 2, True),
        "missing": (1, 1, False),
    }
    assert probes["missing"]["worst"]["index"] == [0, 1]
    assert (probes["missing"]["worst"]["source"], probes["missing"]["worst"]["artefact"]) == ("nan", 7.0)
    nearest = probes["zero"]["worst"]
    assert (nearest["case"], nearest["output"]) == ("zero of 3", "y")
    assert 0 < nearest["share_of_tolerance"] < 1


def test_a_case_that_the_artefact_cannot_run_is_the_worst_of_its_class() -> None:
    def fails(inputs: Arrays) -> Arrays:
        raise RuntimeError("no such kernel")

    assert verify.compare([row(1, "sizes")], fails)["probes"]["sizes"]["worst"] == {
        "case": "sizes of 1",
        "error": "no such kernel",
    }


def test_the_classes_of_an_export_add_up_to_its_cases(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(200, 3))
    forest = RandomForestClassifier(5, random_state=0).fit(rows, rows[:, 0] > 0)
    joblib.dump(forest, tmp_path / "model.joblib")

    run(ExportRequest(tmp_path / "model.joblib", tmp_path / "package", "onnx"))

    fidelity = json.loads((tmp_path / "package/fidelity.json").read_bytes())
    assert {"base", "sizes", "typical", "boundary", "missing", "zero", "denormal"} <= set(fidelity["probes"])
    for name, found in fidelity["probes"].items():
        cases = [case for case in fidelity["cases"] if case["class"] == name]
        assert found["cases"] == len(cases)
        assert found["rows"] == sum(case["input_shapes"]["input"][0] for case in cases)
        assert found["worst"]["source"] is not None
    readme = (tmp_path / "package/README.md").read_text()
    for name, found in fidelity["probes"].items():
        assert f"| {name} | {found['cases']} | {found['rows']} | {found['worst']['max_abs']} |" in readme
    assert "rtol 0.001, atol 0.0001: runtimes add up float32 numbers in different orders" in readme


def test_an_output_that_is_empty_in_one_case_is_proven_by_another() -> None:
    empty = Case("none", {"x": np.zeros((0, 2), np.float32)}, {"y": np.zeros((0, 2), np.float32)}, "sizes")

    def right(inputs: Arrays) -> Arrays:
        return {"y": inputs["x"] * 2}

    assert verify.compare([row(1, "base"), empty], right)["verdict"] == "verified"
    assert verify.compare([empty], right)["verdict"] == "failed"


def failing(
    estimator: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Any], None]
) -> Any:
    """fidelity.json and the message of an export whose ONNX was damaged after its conversion."""
    repair = onnx_trees.repair

    def repaired_and_damaged(model: Any, *arguments: Any, **more: Any) -> Any:
        result = repair(model, *arguments, **more)
        damage(next(node for node in model.graph.node if node.op_type.startswith("TreeEnsemble")))
        return result

    monkeypatch.setattr(onnx_trees, "repair", repaired_and_damaged)
    joblib.dump(estimator, folder / "model.joblib")
    with pytest.raises(VerificationFailed) as caught:
        run(ExportRequest(folder / "model.joblib", folder / "package", "onnx"))
    return json.loads((folder / "package/fidelity.json").read_bytes())["failure"], caught.value.message


def test_a_refusal_shows_the_smallest_failing_input_and_both_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = np.random.default_rng(0).normal(size=(300, 4))
    rows[rows < -1] = np.nan
    tree = DecisionTreeRegressor(max_depth=2, random_state=0).fit(rows, np.nan_to_num(rows[:, 1], nan=9.0))

    def other_missing_branch(node: Any) -> None:
        tracks = next(one for one in node.attribute if one.name == "nodes_missing_value_tracks_true")
        tracks.ints[:] = [1 - flag for flag in tracks.ints]

    failure, message = failing(tree, tmp_path, monkeypatch, other_missing_branch)

    assert failure["output"] == "variable"
    assert "missing" in failure["classes"]
    values = np.array(failure["inputs"]["input"]["values"], float)
    assert values.shape == (1, 4)
    assert np.isnan(values[0, 1])
    assert (np.nan_to_num(values[0, [0, 2, 3]]) == 0).all()
    right = tree.predict(values)[0]
    assert failure["source_answers"]["values"][0][0] == pytest.approx(right)
    assert failure["artefact_answers"]["values"][0][0] != pytest.approx(right)
    assert "SimpleImputer" in failure["advice"]
    for part in (
        "missing values",
        "The smallest failing input that was found: input = [[",
        "nan",
        "the artefact [[",
        "export pickle",
    ):
        assert part in message


def test_a_class_of_rows_is_shrunk_to_one_row_of_zeros(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = np.random.default_rng(0).normal(size=(300, 3))
    tree = DecisionTreeRegressor(max_depth=3, random_state=0).fit(rows, rows[:, 0])

    def other_leaves(node: Any) -> None:
        weights = next(one for one in node.attribute if one.name == "target_weights")
        weights.floats[:] = [weight + 1 for weight in weights.floats]

    failure, _ = failing(tree, tmp_path, monkeypatch, other_leaves)

    assert failure["class"] == "base"
    assert failure["inputs"]["input"] == {"dtype": "float32", "shape": [1, 3], "values": [[0.0, 0.0, 0.0]]}


def test_all_files_of_a_package_have_one_mode(tmp_path: Path) -> None:
    (tmp_path / "private.json").touch(0o600)
    (tmp_path / "copied.py").touch(0o555)

    package.write_manifest(tmp_path)

    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o644}


@pytest.mark.parametrize(("declared", "mentioned"), [(None, True), ({"resize": None}, False)])
def test_a_processor_that_is_not_applied_is_mentioned(
    declared: dict[str, Any] | None, mentioned: bool, tmp_path: Path
) -> None:
    metadata = DECLARATIONS[0].metadata("onnx")
    (tmp_path / "preprocessor_config.json").write_text("{}")
    if declared is None:
        metadata["preprocessing"] = None

    wrappers.write(tmp_path, metadata, {"onnxruntime": "1.31.1", "numpy": "2.2"})

    readme = (tmp_path / "README.md").read_text()
    assert ("`preprocessor_config.json` came with the checkpoint and is not applied" in readme) == mentioned
