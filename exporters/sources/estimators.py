"""A fitted scikit-learn, XGBoost or LightGBM estimator, from a library's own file or from a pickle.

It takes one ``input``, float32[batch, columns]: the dtype of the runtimes of exported estimators, and the one
in which tree ensembles compare. For an estimator of texts, the columns are the counts of its terms
(``texts``); those of a table's columns of texts follow the table's columns (``tables``). The source gets the
same numbers in float64, the dtype in which estimators are fitted and compute; its ``answers`` are float32.
With the option ``float64``, the input is float64, and so are the outputs that a runtime computes in float64.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..base import ESTIMATOR, Arrays, Dimension, Source, TensorSpec
from ..errors import InvalidSource, UnsafeCheckpoint, UnsupportedOption, as_limit
from ..request import Trust
from . import answers, boosters, columns, native_state, pickle_gate, probes, skops_gate, tables, texts
from .compressed import open_bounded
from .fitted import parts
from .term_counts import most_rows
from .text_columns import TextColumns
from .trees import fitted_trees
from .typical import known_bounds, typical_rows

INPUT = "input"
FRAMEWORKS = ("sklearn", "xgboost", "lightgbm")
_PROBES = 128


def load(path: Path, options: Mapping[str, Any], trust: Trust) -> Source:
    """Load the estimator of a file as a source.

    Raises:
        UnsafeCheckpoint, InvalidSource: the gate of this kind of file rejects it.
        InvalidSource: not fitted, or no estimator.
        UnsupportedOption: the option ``inputs``, or ``float64`` for an estimator without float64.
    """
    if options.get("inputs") is not None:
        raise UnsupportedOption(
            "Remove the option 'inputs': an estimator records its columns. The option is for checkpoints "
            "that do not record their inputs.",
            allowed=None,
            option="inputs",
        )
    estimator = read(path, trust)
    if not options.get("float64"):
        return as_source(estimator)
    source = as_source(estimator, "float64", "float32" if _answers_float32(estimator) else "float64")
    if source.inputs[0].dtype != "float64":
        raise UnsupportedOption(
            f"The {type(estimator).__name__} itself does not support float64. Export it without float64.",
            allowed=[False],
            option="float64",
        )
    return source


def _answers_float32(estimator: Any) -> bool:
    """Return whether ONNX sums the outputs in float32: trees of ai.onnx.ml and XGBoost always do."""
    boosts = any(type(part).__module__.startswith("xgboost") for part in parts(estimator))
    return boosts or bool(fitted_trees(estimator))


def read(path: Path, trust: Trust = Trust()) -> Any:  # noqa: B008 - frozen
    """Return the checked estimator of the file.

    Raises:
        UnsafeCheckpoint, InvalidSource: the gate of this kind of file rejects it.
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
        f"{str(exc)[:200]}). It is incomplete, another version of its library wrote it, or this "
        "kind of estimator is not supported. Fit it and save it with the installed scikit-learn "
        f"{sklearn.__version__}; if that fails too, use another estimator."
    )


def _unpickle(path: Path) -> Any:
    """Unpickle without checks: only if the operator allowed it, and in the confined child process."""
    import joblib

    try:
        return joblib.load(path)
    except Exception as exc:
        raise as_limit(exc) or InvalidSource(
            f"The pickle cannot be loaded here: {type(exc).__name__}: {str(exc).strip()[:200]}"
        ) from exc


def as_source(estimator: Any, dtype: str = "float32", answered: str = "float32") -> Source:
    """Return the estimator as a source with an input of ``dtype``: float32, or float64 if it accepts that.

    ``answered``: the dtype of its outputs except labels.

    Raises InvalidSource: not fitted, no estimator, incomplete, or several labels for a row.
    """
    try:
        with _one_thread(_framework(estimator)):
            return _as_source(estimator, dtype, answered)
    except (AttributeError, KeyError, IndexError, TypeError) as exc:
        raise _unusable(estimator, exc) from exc


def _framework(estimator: Any) -> str:
    return type(estimator).__module__.partition(".")[0]


def _as_source(estimator: Any, dtype: str, answered: str) -> Source:
    framework = _framework(estimator)
    table = tables.of(estimator)
    words = texts.of(estimator) if table is None else None
    width = _width(estimator, words, table)
    if not isinstance(width, (int, np.integer)) or width < 1:
        raise InvalidSource(
            f"The file contains a {type(estimator).__name__}, which is not a fitted estimator. Call "
            "fit() and save the estimator or the whole pipeline."
        )
    answer = answers.of(estimator)
    if (known := words or table) is not None:
        answer, estimator = known.answered(answer, answers.of(known.program)), known.program
    draw: Callable[[int, int], npt.NDArray[Any]]
    if words is not None:
        draw, rows = words.terms.draw, words.typical()
    else:
        beside = None if table is None else table.words
        draw = _drawing(estimator, int(width), answer, beside)
        rows = draw(_typical_count(beside), 0)
    working = _working_dtype(answer, rows)
    given = dtype if working == "float64" else "float32"
    typical = rows.astype(given)
    coverage: dict[str, int] = {}

    def reference(arrays: Arrays) -> Arrays:
        with warnings.catch_warnings(), _one_thread(framework):
            warnings.simplefilter("ignore")
            found = answer(arrays[INPUT].astype(working))
            return {name: one if name == "label" else one.astype(answered) for name, one in found.items()}

    def classes() -> Iterator[tuple[str, npt.NDArray[Any]]]:
        if words is not None:
            return words.probes(coverage)
        if table is not None:
            return table.probes(typical, coverage)
        return probes.classes(estimator, typical, coverage)

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
        classes=answers.class_names(estimator),
        labels=answers.label_outputs(estimator, lambda: reference({INPUT: typical})),
        draw=lambda shapes, seed: {INPUT: draw(shapes[INPUT][0], seed + 1).astype(given)},
        probes=lambda: ((name, {INPUT: rows.astype(given, copy=False)}) for name, rows in classes()),
        coverage=coverage,
        units=frozenset({"variable"}) if _has_units(estimator) else frozenset(),
        table=table,
        texts=words,
        missing=tables.takes(reference, {INPUT: typical}, np.nan),
    )


@contextmanager
def _one_thread(framework: str) -> Iterator[None]:
    """Run the estimator in one thread.

    Its own n_jobs was chosen for the machine that fitted it. OpenMP threads wait for each other at every
    tree: on busy cores that takes ten times as long as the prediction.
    """
    import joblib

    with joblib.parallel_config(backend="sequential"), _pools(framework).limit(limits=1, user_api="openmp"):
        yield


@lru_cache
def _pools(framework: str) -> Any:
    """Return the thread pools of the loaded libraries, including the framework's."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _has_units(estimator: Any) -> bool:
    """Return whether each output column has its own unit: true for transformers, except for distances."""
    return not hasattr(estimator, "predict") and not hasattr(estimator, "kneighbors_graph")


def _drawing(
    estimator: Any, width: int, answer: Callable[[npt.NDArray[Any]], Arrays], words: TextColumns | None
) -> Callable[[int, int], npt.NDArray[Any]]:
    """Return (count, seed) → float64 rows with known values; above zero if other values are rejected."""
    known, bounds = columns.known(estimator, width), known_bounds(estimator, width)

    def draw(count: int, seed: int) -> npt.NDArray[Any]:
        rows = columns.with_codes(typical_rows(bounds, count, seed), known, seed)
        return rows if words is None else words.drawn(rows, seed)

    def above_zero(count: int, seed: int) -> npt.NDArray[Any]:
        rows = _above_zero(columns.with_codes(typical_rows(bounds, count, seed), known, seed))
        return rows if words is None else words.drawn(rows, seed)

    count = _typical_count(words)
    try:
        answer(draw(count, 0))
    except ValueError:
        try:
            answer(above_zero(count, 0))
        except Exception:  # the base case reports the error
            return draw
        return above_zero
    except Exception:  # likewise
        return draw
    return draw


def _typical_count(words: TextColumns | None) -> int:
    return _PROBES if words is None else min(_PROBES, most_rows(words.width))


def _above_zero(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.asarray(np.abs(rows) + 0.1, rows.dtype)


def _width(estimator: Any, words: texts.Texts | None, table: tables.Table | None) -> Any:
    """Return the number of columns, or something else if the estimator is not fitted.

    A pipeline reads it from its first step only, which may be "passthrough".
    """
    if words is not None:
        return words.terms.width
    if table is not None and table.words is not None:
        return table.words.width
    while hasattr(estimator, "steps"):
        estimator = next((step for _, step in estimator.steps if not isinstance(step, str) and step), None)
    return (
        1 if type(estimator).__name__ == "IsotonicRegression" else getattr(estimator, "n_features_in_", None)
    )


def _working_dtype(answer: Callable[[npt.NDArray[Any]], Arrays], rows: npt.NDArray[Any]) -> str:
    """Return float64, the dtype of fitting; float32 for an estimator whose compiled code requires it."""
    try:
        answer(rows[:1].astype(np.float64))
    except ValueError:
        return "float32"
    except Exception:  # the base case reports the error
        return "float64"
    return "float64"
