"""scikit-learn's estimators, pipelines and boosters as sources, judged by the plain runtime.

    python -m tests.exporters.suites.estimators RESULTS [PATTERN ...]

adds a line of JSON for each case to the file RESULTS and prints the counts of all its lines. A case that the
file has is not run again, so that a run can be continued; a case whose name a PATTERN matches is. Nothing of
the verifier is used: the held-out rows are made here, the session is onnxruntime's own, and the answers are
the estimator's.
"""

import argparse
import json
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import polars

from .estimator_cases import Case, cases
from .estimator_data import Array, Rows, data, held_out

Answers = dict[str, Array]

_RELATIVE, _OF_THE_LARGEST = 2e-3, 2e-4
# A cause, and the words of the refusals in it; the first that fits.
CAUSES = {
    "not on the list of what is loaded": ("contains",),
    "no converter": ("There is no", "Unable to find a shape calculator", "is supported yet", "iplemented"),
    "its trees cannot be compared": ("trees that the model does not have",),
    "the converter fails": ("cannot be converted", "The converter produces"),
    "wrong, and found so": ("does not behave like its source",),
    "fails in the runtime, and found so": (
        "fails on inputs that its source accepts",
        "its own runtime cannot load",
    ),
    "answers no single row": ("can neither predict nor transform",),
    "no input of columns": ("which is not a fitted estimator",),
    "several labels for a row": ("several labels",),
}


def wanted(estimator: Any, rows: Rows) -> Answers:
    """By the name of the output. Raises what the estimator does."""
    wide = rows.astype(np.float64) if isinstance(rows, np.ndarray) else rows
    found: Answers = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if hasattr(estimator, "predict"):
            labels = hasattr(estimator, "classes_") or not _is_number(estimator)
            found["label" if labels else "variable"] = np.asarray(estimator.predict(wide))
        if hasattr(estimator, "predict_proba"):
            found["probabilities"] = np.asarray(estimator.predict_proba(wide))
        elif hasattr(estimator, "decision_function"):
            score = np.asarray(estimator.decision_function(wide)).reshape(len(wide), -1)
            two = score.shape[1] == 1 and hasattr(estimator, "classes_")
            found["scores"] = np.hstack([-score, score]) if two else score
        elif "label" in found and not hasattr(estimator, "classes_") and hasattr(estimator, "transform"):
            found["scores"] = np.asarray(estimator.transform(wide))
        elif not found:
            answer = estimator.transform(wide)
            found["variable"] = answer.toarray() if hasattr(answer, "toarray") else np.asarray(answer)
    return {name: answer.reshape(len(wide), -1) for name, answer in found.items()}


def _is_number(estimator: Any) -> bool:
    """Whether what it predicts is an amount, as of a regressor, and no label."""
    from sklearn.base import is_clusterer, is_outlier_detector

    mixes = hasattr(estimator, "predict_proba")
    return not (is_clusterer(estimator) or is_outlier_detector(estimator) or mixes)


def accepted(estimator: Any, block: Rows) -> tuple[Rows, Answers] | None:
    """The rows of a block that the estimator takes, and its answers; None where it takes none."""
    try:
        return block, wanted(estimator, block)
    except Exception:  # each estimator has its own for rows that it does not take
        pass
    taken = []
    for place in range(len(block)):
        try:
            wanted(estimator, block[place : place + 1])
            taken.append(place)
        except Exception:
            if place >= 8 and not taken:
                return None
    if not taken:
        return None
    rows = [block[place] for place in taken] if isinstance(block, list) else block[taken]
    return rows, wanted(estimator, rows)


def differs(estimator: Any, package: Path, rows: Rows) -> str:
    """Where a plain session answers otherwise than the estimator; nothing where it does not."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(package / "model.onnx", options, ["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    document = json.loads((package / "metadata.json").read_bytes())

    def ask(block: Rows) -> Answers:
        answers = session.run(names, {session.get_inputs()[0].name: as_input(block, package, document)})
        return dict(zip(names, answers, strict=True))

    return _differs(estimator, ask, rows)


def stays_itself(estimator: Any, package: Path, rows: Rows) -> str:
    """The same of the estimator that a package of ``pickle`` holds."""
    import skops.io

    path = package / "model.skops"
    stored = skops.io.load(path, trusted=skops.io.get_untrusted_types(file=path))
    document = json.loads((package / "metadata.json").read_bytes())

    def ask(block: Rows) -> Answers:
        if isinstance(block, np.ndarray):
            return wanted(stored, block)
        return wanted(stored, as_input(block, package, document).astype(np.float64))

    return _differs(estimator, ask, rows)


def _differs(estimator: Any, ask: Any, rows: Rows) -> str:
    usual: dict[str, float] = {}
    asked = 0
    for number, block in enumerate(held_out(rows)):
        taken = accepted(estimator, block)
        if taken is None:
            continue
        block, expected = taken
        asked += 1
        try:
            found = ask(block)
        except Exception as exc:
            return f"fails on block {number}: {str(exc)[:120]}"
        tied = _tied(expected)
        for name, right in expected.items():
            usual.setdefault(name, _largest(right) if right.dtype.kind in "iuf" else 0.0)
            if name not in found:
                return f"no output {name}"
            ours = found[name].reshape(len(block), -1)
            if name == "label":
                same = np.array_equal(_as_labels(estimator, right)[~tied], _as_labels(estimator, ours)[~tied])
            else:
                same = _close(right, ours, usual[name])
            if not same:
                return f"{name}, block {number}"
    return "" if asked else "no block is taken"


def as_input(block: Rows, package: Path, document: dict[str, Any]) -> Any:
    """float32: a place in the list of its categories for each text of a table; of texts the counts of terms,
    as the package itself makes them."""
    if isinstance(block, list):
        from exporters.processing.pipeline import Pipeline

        (counts,) = Pipeline(document, package).prepare(block)[0].values()
        return counts
    if not isinstance(block, polars.DataFrame):
        return block.astype(np.float32)
    found = np.zeros(block.shape, np.float32)
    for place, column in enumerate(document["table"]["columns"]):
        values = block[column["name"]].to_list()
        if column["dtype"] == "string":
            known = {text: float(code) for code, text in enumerate(column["categories"])}
            values = [np.nan if one is None else known.get(one, -1.0) for one in values]
        found[:, place] = np.array(values, float)
    return found


def _as_labels(estimator: Any, labels: Array) -> Array:
    """A class that is no integer is labelled by its place in ``classes_``."""
    classes = np.asarray(getattr(estimator, "classes_", []))
    if labels.dtype.kind in "iu" or classes.dtype.kind in "iu":
        return labels.astype(np.int64)
    return np.searchsorted(classes, labels) if len(classes) else labels.astype(np.int64)


def _tied(expected: Answers) -> Any:
    """The rows whose two best scores are so close that either label is right."""
    scores = expected.get("probabilities", expected.get("scores"))
    if scores is None or "label" not in expected:
        return np.zeros(len(next(iter(expected.values()))), bool)
    with np.errstate(invalid="ignore"):
        if scores.shape[1] == 1:
            return np.abs(scores[:, 0]) <= _OF_THE_LARGEST * np.abs(scores).max()
        ordered = np.sort(np.abs(scores) if "probabilities" not in expected else scores, axis=1)
        gaps = np.minimum(ordered[:, -1] - ordered[:, -2], ordered[:, 1] - ordered[:, 0])
        return gaps <= _RELATIVE * np.abs(ordered).max(axis=1)


def _largest(numbers: Array) -> float:
    finite = numbers[np.isfinite(numbers)]
    return float(np.abs(finite.astype(np.float64)).max(initial=0.0))


def _close(right: Array, ours: Array, usual: float) -> bool:
    """A row far outside the usual is measured by its own largest number."""
    if right.shape != ours.shape:
        return False
    with np.errstate(over="ignore", invalid="ignore"):
        narrow = right.astype(np.float32).astype(np.float64)
        finite = np.isfinite(narrow)
        rows = np.abs(np.where(finite, narrow, 0)).max(axis=1, keepdims=True, initial=0.0)
        allowed = _RELATIVE * np.abs(narrow) + _OF_THE_LARGEST * np.maximum(rows, usual) + 1e-6
        same = (narrow == ours) | (np.isnan(narrow) & np.isnan(ours)) | (np.abs(narrow - ours) <= allowed)
    return bool(same.all())


def measure(case: Case, folder: Path) -> dict[str, Any]:
    """What came of one case: ``result`` right, wrong, refused or no case, and its ``cause``.

    ``has_converter``: whether there is one for its class. ``pickle``: what came of the fallback.
    """
    import joblib

    found: dict[str, Any] = {"case": case.name, "has_converter": _has_converter(case.estimator)}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            estimator = case.fitted()
    except Exception as exc:
        return {**found, "result": "no case", "cause": f"fit: {str(exc)[:120]}"}
    joblib.dump(estimator, folder / "model.joblib")
    rows, _ = data(case.data)
    found |= _exported(folder, "onnx", lambda package: differs(estimator, package, rows))
    if found["result"] == "refused":
        kept = _exported(folder, "pickle", lambda package: stays_itself(estimator, package, rows))
        found["pickle"] = {name: kept[name] for name in ("result", "cause")}
    return found


def _has_converter(estimator: Any) -> bool:
    from skl2onnx._supported_operators import sklearn_operator_name_map

    from exporters.formats import normal_form, onnx_converters

    onnx_converters.register()
    kind = type(estimator)
    return kind in sklearn_operator_name_map or kind.__name__ in (
        *normal_form._WRAPPERS,
        "ColumnTransformer",
        "TransformedTargetRegressor",
    )


def _exported(folder: Path, format_name: str, judge: Any) -> dict[str, Any]:
    from exporters.convert import run
    from exporters.errors import ExportError
    from exporters.request import ExportRequest

    package = folder / format_name
    try:
        run(ExportRequest(folder / "model.joblib", package, format_name))
    except ExportError as exc:
        cause = next(
            (one for one, words in CAUSES.items() if any(word in exc.message for word in words)), exc.code
        )
        return {"result": "refused", "cause": cause, "message": exc.message[:400]}
    except Exception as exc:
        return {"result": "refused", "cause": "traceback", "message": f"{type(exc).__name__}: {exc}"[:400]}
    cause = judge(package)
    return {"result": "wrong" if cause else "right", "cause": cause}


def run_all(results: Path, patterns: Iterable[str] = ()) -> list[dict[str, Any]]:
    """Run what the file lacks, or what a pattern matches; return what is known of every case."""
    lines = results.read_text().splitlines() if results.exists() else []
    known = {line["case"]: line for line in map(json.loads, lines)}
    wanted_again = tuple(patterns)
    names = []
    for case in cases():
        names.append(case.name)
        if case.name in known and not any(fnmatch(case.name, one) for one in wanted_again):
            continue
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as scratch:
            known[case.name] = measure(case, Path(scratch))
        known[case.name]["seconds"] = round(time.perf_counter() - started, 2)
        with results.open("a") as file:
            file.write(json.dumps(known[case.name]) + "\n")
    return [known[name] for name in names]


def summary(found: list[dict[str, Any]]) -> str:
    """The counts, as rows of Markdown."""
    tried = [one for one in found if one["result"] != "no case"]
    able = [one for one in tried if one["has_converter"]]
    rows = ["| of | cases | right | wrong | refused |", "| --- | --- | --- | --- | --- |"]
    for name, part in (("all", tried), ("with a converter", able)):
        count = Counter(one["result"] for one in part)
        right = f"{count['right']} ({100 * count['right'] / max(1, len(part)):.1f} %)"
        rows.append(f"| {name} | {len(part)} | {right} | {count['wrong']} | {count['refused']} |")
    causes = Counter(
        (one["cause"], one["has_converter"]) for one in tried if one["result"] == "refused"
    ).most_common()
    rows += ["", "| refused | with a converter | cases |", "| --- | --- | --- |"]
    rows += [f"| {cause} | {'yes' if able else 'no'} | {count} |" for (cause, able), count in causes]
    kept = Counter(one["pickle"]["result"] for one in tried if "pickle" in one)
    rows += ["", f"pickle, where ONNX is refused: {dict(kept)}"]
    left = [one for one in found if one["result"] in ("wrong", "no case")]
    rows += [f"{one['case']}: {one['result']}, {one['cause']}" for one in left]
    return "\n".join(rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("patterns", nargs="*")
    given = parser.parse_args()
    print(summary(run_all(given.results, given.patterns)), file=sys.stdout)
