"""What fidelity.json says about each class of probes."""

import json
from pathlib import Path

import joblib
import numpy as np
from sklearn.ensemble import RandomForestClassifier

from exporters import verify
from exporters.base import Arrays, Case
from exporters.convert import run
from exporters.request import ExportRequest


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
