"""A fitted scikit-learn, XGBoost or LightGBM estimator, in a file of its own kind or in a pickle.

It takes one ``input``, float32[batch, n_features]: what runtimes of exported estimators take, and what tree
ensembles compare in. Of an estimator that takes texts these are the counts of its terms (``texts``). The
source gets the same numbers in float64, which is what estimators are fitted on and compute in; what comes out
is float32. The outputs are named as skl2onnx and onnxmltools name them:

==============  ============================================================================================
a classifier    ``probabilities`` float32[batch, classes], or ``scores`` where it has none, which come first
                as a classifier's scores do everywhere here; then ``label`` int64[batch]. A class that is no
                integer is labelled by its place in ``classes_``, whose names are the source's ``classes``
a regressor     ``variable`` float32[batch, targets]
a transformer   ``variable`` float32[batch, columns]
a clusterer or  ``scores`` float32[batch, k], the distances from the centres or the decision function, and
outlier finder  where it has either; ``label`` int64[batch]
==============  ============================================================================================
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..base import ESTIMATOR, Arrays, Dimension, Labels, Source, TensorSpec
from ..errors import InvalidSource, UnsafeCheckpoint, UnsupportedOption, as_limit
from ..request import Trust
from . import boosters, columns, native_state, pickle_gate, probes, skops_gate, tables, texts
from .compressed import open_bounded
from .typical import known_bounds, typical_rows

INPUT = "input"
FRAMEWORKS = ("sklearn", "xgboost", "lightgbm")
_PROBES = 128


def load(path: Path, options: Mapping[str, Any], trust: Trust) -> Source:
    """Raises UnsafeCheckpoint and InvalidSource as the gates do; InvalidSource for what is not fitted or no
    estimator; UnsupportedOption for the option ``inputs``.
    """
    if options.get("inputs") is not None:
        raise UnsupportedOption(
            "The option inputs is for checkpoints that do not record them: an estimator knows its columns.",
            allowed=None,
            option="inputs",
        )
    return as_source(read(path, trust))


def read(path: Path, trust: Trust = Trust()) -> Any:  # noqa: B008 - frozen
    """The estimator in the file, checked.

    Raises:
        UnsafeCheckpoint, InvalidSource: as the gates.
    """
    import joblib
    import sklearn.exceptions

    with warnings.catch_warnings(), joblib.parallel_config(backend="sequential"):
        warnings.simplefilter("ignore", sklearn.exceptions.InconsistentVersionWarning)
        warnings.simplefilter("ignore", FutureWarning)
        return _read(path, trust)


def _read(path: Path, trust: Trust) -> Any:
    with path.open("rb") as file:
        head = file.read(64)
    if boosters.is_xgboost(head):
        return boosters.load_xgboost(path)
    if boosters.is_lightgbm(head):
        return boosters.load_lightgbm(path)
    try:
        if head.startswith(b"PK"):
            estimator = skops_gate.load(path)
        else:
            with open_bounded(path) as content:
                estimator = pickle_gate.load(content)
        _check(estimator)
        return estimator
    except UnsafeCheckpoint:
        if not trust.unsafe_checkpoints:
            raise
    return _unpickle(path)


def _check(estimator: Any) -> None:
    try:
        native_state.check(estimator)
    except (UnsafeCheckpoint, InvalidSource):
        raise
    except Exception as exc:
        raise as_limit(exc) or _unusable(estimator, exc) from exc


def _unusable(estimator: Any, exc: Exception) -> InvalidSource:
    import sklearn

    return InvalidSource(
        f"The {type(estimator).__name__} in the file cannot be used ({type(exc).__name__}: "
        f"{str(exc)[:200]}). It is not whole, another version of its library wrote it, or this kind of "
        f"estimator is not supported. Fit it and save it with scikit-learn {sklearn.__version__}, which is "
        "installed here; if that fails too, use another estimator."
    )


def _unpickle(path: Path) -> Any:
    """Everything that the file says is done: only where the operator allowed it, in the confined child."""
    import joblib

    try:
        return joblib.load(path)
    except Exception as exc:
        raise as_limit(exc) or InvalidSource(
            f"The pickle cannot be loaded here: {type(exc).__name__}: {str(exc).strip()[:200]}"
        ) from exc


def as_source(estimator: Any, dtype: str = "float32") -> Source:
    """The estimator with an input of ``dtype``: float32, or float64 where the estimator takes it.

    Raises InvalidSource: not fitted, no estimator, not whole, or one with several labels for a row.
    """
    try:
        with _one_thread(_framework(estimator)):
            return _as_source(estimator, dtype)
    except (AttributeError, KeyError, IndexError, TypeError) as exc:
        raise _unusable(estimator, exc) from exc


def _framework(estimator: Any) -> str:
    return type(estimator).__module__.partition(".")[0]


def _as_source(estimator: Any, dtype: str) -> Source:
    framework = _framework(estimator)
    words = texts.of(estimator)
    width = _width(estimator) if words is None else words.width
    if not isinstance(width, (int, np.integer)) or width < 1:
        raise InvalidSource(
            f"The file holds a {type(estimator).__name__}, which is no fitted estimator. Call fit() and save "
            "the estimator or the whole pipeline."
        )
    table = tables.of(estimator) if words is None else None
    answer = _answer(estimator)
    if table is not None and table.has_texts:
        answer, estimator = _of_texts(answer, table), table.program
    if words is not None:
        answer, estimator = words.answered(answer, _answer(words.program)), words.program
    draw = _drawing(estimator, int(width), answer) if words is None else words.draw
    rows = draw(_PROBES, 0) if words is None else words.typical()
    working = _working_dtype(answer, rows)
    given = dtype if working == "float64" else "float32"
    typical = rows.astype(given)
    coverage: dict[str, int] = {}

    def reference(arrays: Arrays) -> Arrays:
        with warnings.catch_warnings(), _one_thread(framework):
            warnings.simplefilter("ignore")
            return answer(arrays[INPUT].astype(working))

    return Source(
        kind=framework if framework in FRAMEWORKS else "sklearn",
        family=ESTIMATOR,
        program=estimator,
        inputs=(TensorSpec(INPUT, given, ("batch", int(width))),),
        dimensions={"batch": Dimension()},
        symbols={},
        reference=reference,
        shapes=lambda sizes: {INPUT: (sizes["batch"], int(width))},
        integers={},
        classes=class_names(estimator),
        labels=_label_outputs(estimator, lambda: reference({INPUT: typical})),
        draw=lambda shapes, seed: {INPUT: draw(shapes[INPUT][0], seed + 1).astype(given)},
        probes=lambda: (
            (name, {INPUT: rows.astype(given, copy=False) if table is None else table.projected(rows)})
            for name, rows in (
                probes.classes(estimator, typical, coverage) if words is None else words.probes(coverage)
            )
        ),
        coverage=coverage,
        units=frozenset({"variable"}) if _has_units(estimator) else frozenset(),
        table=table,
        texts=words,
        missing=tables.takes(reference, {INPUT: typical}, np.nan),
    )


@contextmanager
def _one_thread(framework: str) -> Iterator[None]:
    """An estimator's own n_jobs is about the machine that fitted it. Threads of OpenMP wait for each other at
    every tree: on busy cores that takes ten times as long as the prediction.
    """
    import joblib

    with joblib.parallel_config(backend="sequential"), _pools(framework).limit(limits=1, user_api="openmp"):
        yield


@lru_cache
def _pools(framework: str) -> Any:
    """The pools of threads of the libraries that are loaded, the framework's among them."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _of_texts(
    answer: Callable[[npt.NDArray[Any]], Arrays], table: tables.Table
) -> Callable[[npt.NDArray[Any]], Arrays]:
    return lambda rows: answer(table.decoded(rows))


def _has_units(estimator: Any) -> bool:
    """Whether each column of the output has a unit of its own: of a transformer, but not of distances."""
    return not hasattr(estimator, "predict") and not hasattr(estimator, "kneighbors_graph")


def _drawing(
    estimator: Any, width: int, answer: Callable[[npt.NDArray[Any]], Arrays]
) -> Callable[[int, int], npt.NDArray[Any]]:
    """(count, seed) → float32 rows of what is known of each column; above zero where others are rejected."""
    known, bounds = columns.known(estimator, width), known_bounds(estimator, width)

    def draw(count: int, seed: int) -> npt.NDArray[Any]:
        return columns.with_codes(typical_rows(bounds, count, seed), known, seed)

    try:
        answer(draw(_PROBES, 0).astype(np.float64))
    except ValueError:
        try:
            answer(_above_zero(draw(_PROBES, 0)).astype(np.float64))
        except Exception:  # the base case reports the error
            return draw
        return lambda count, seed: _above_zero(draw(count, seed))
    except Exception:  # likewise
        return draw
    return draw


def _above_zero(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.asarray(np.abs(rows) + 0.1, rows.dtype)


def _width(estimator: Any) -> Any:
    """The number of columns; a pipeline looks for it in its first step alone, which may be "passthrough"."""
    while hasattr(estimator, "steps"):
        estimator = next((step for _, step in estimator.steps if not isinstance(step, str) and step), None)
    return (
        1 if type(estimator).__name__ == "IsotonicRegression" else getattr(estimator, "n_features_in_", None)
    )


def _working_dtype(answer: Callable[[npt.NDArray[Any]], Arrays], rows: npt.NDArray[Any]) -> str:
    """float64, as estimators are fitted and asked; float32 for one whose compiled code insists on it."""
    try:
        answer(rows[:1].astype(np.float64))
    except ValueError:
        return "float32"
    except Exception:  # the base case reports the error
        return "float64"
    return "float64"


def class_names(estimator: Any) -> tuple[str, ...] | None:
    """What the columns of probabilities are of."""
    classes = getattr(estimator, "classes_", None)
    if classes is None or not _is_classifier(estimator):
        return None
    return tuple(str(label) for label in np.asarray(classes).tolist())


def labels_are_places(estimator: Any) -> bool:
    """Whether ``label`` is the place in ``classes_``, not the class itself."""
    return np.asarray(estimator.classes_).dtype.kind not in "iu"


def _label_outputs(estimator: Any, ask: Callable[[], Arrays]) -> dict[str, Labels]:
    """A label that is not the class that scores best is judged in every row: as of a support vector machine,
    which votes, or a decision function, which may have other columns than classes.

    ``ask``: what the estimator answers to typical rows.
    """
    if not _is_classifier(estimator) or not hasattr(estimator, "predict_proba"):
        return {}
    classes = np.asarray(estimator.classes_)
    values = np.arange(len(classes)) if labels_are_places(estimator) else classes
    try:
        answers = ask()
    except Exception:  # the base case reports the error
        return {}
    scores, chosen = answers["probabilities"], answers["label"][:, None] == values
    if (
        scores.shape != chosen.shape
        or not (chosen & (scores == scores.max(axis=1, keepdims=True))).any(1).all()
    ):
        return {}
    return {"label": Labels("probabilities", tuple(values.tolist()))}


def _is_classifier(estimator: Any) -> bool:
    from sklearn.base import is_classifier

    return bool(is_classifier(estimator))


def _answer(estimator: Any) -> Callable[[npt.NDArray[Any]], Arrays]:
    if _is_classifier(estimator):
        return _classifier(estimator)
    from sklearn.base import is_clusterer, is_outlier_detector, is_regressor

    if is_clusterer(estimator) and hasattr(estimator, "predict"):
        if not hasattr(estimator, "transform"):
            return lambda rows: {"label": _labels(estimator.predict(rows))}
        return lambda rows: {
            "scores": _columns(estimator.transform(rows)),
            "label": _labels(estimator.predict(rows)),
        }
    if is_outlier_detector(estimator):
        return lambda rows: {
            "scores": _columns(estimator.decision_function(rows)),
            "label": _labels(estimator.predict(rows)),
        }
    if is_regressor(estimator) or (hasattr(estimator, "predict") and not hasattr(estimator, "predict_proba")):
        return lambda rows: {"variable": _columns(estimator.predict(rows))}
    if hasattr(estimator, "predict_proba"):  # a mixture
        return lambda rows: {
            "probabilities": _columns(estimator.predict_proba(rows)),
            "label": _labels(estimator.predict(rows)),
        }
    if hasattr(estimator, "transform"):
        return lambda rows: {"variable": _columns(estimator.transform(rows))}
    raise InvalidSource(f"A {type(estimator).__name__} neither predicts nor transforms.")


def _classifier(estimator: Any) -> Callable[[npt.NDArray[Any]], Arrays]:
    classes = estimator.classes_
    if isinstance(classes, list) or np.asarray(classes).ndim != 1:
        raise InvalidSource(
            f"The {type(estimator).__name__} gives several labels for a row. Save one estimator for each."
        )
    classes = np.asarray(classes)
    places = {label: place for place, label in enumerate(classes.tolist())}

    def label(rows: npt.NDArray[Any]) -> npt.NDArray[np.generic]:
        predicted = np.asarray(estimator.predict(rows))
        if not labels_are_places(estimator):
            return _labels(predicted)
        return np.array([places[one] for one in predicted.tolist()], np.int64)

    if hasattr(estimator, "predict_proba"):
        return lambda rows: {"probabilities": _columns(estimator.predict_proba(rows)), "label": label(rows)}

    if not hasattr(estimator, "decision_function"):  # as of votes by majority
        return lambda rows: {"label": label(rows)}

    def scores(rows: npt.NDArray[Any]) -> npt.NDArray[np.generic]:
        """Of two classes scikit-learn gives the second one's score alone: the first one's is its negative."""
        found: npt.NDArray[Any] = _columns(estimator.decision_function(rows))
        return np.hstack([-found, found]) if len(classes) == 2 and found.shape[1] == 1 else found

    return lambda rows: {"scores": scores(rows), "label": label(rows)}


def _labels(values: Any) -> npt.NDArray[np.generic]:
    return np.asarray(values).reshape(-1).astype(np.int64)


def _columns(values: Any) -> npt.NDArray[np.generic]:
    dense = values.toarray() if hasattr(values, "toarray") else np.asarray(values)
    return np.ascontiguousarray(dense.reshape(len(dense), -1), dtype=np.float32)
