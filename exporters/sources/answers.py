"""The outputs of an estimator for rows of inputs, by name.

The names are those of skl2onnx and onnxmltools. Floats have the estimator's own dtype:

==============  ============================================================================================
a classifier    ``probabilities`` float[batch, classes], or ``scores`` if it has none; then ``label``
                int64[batch]. The label of a class that is no integer is its index in ``classes_``, whose
                names are the source's ``classes``
a regressor     ``variable`` float[batch, targets]
a transformer   ``variable`` float[batch, columns]
a clusterer or  ``scores`` float[batch, k], the distances from the centres or the decision function, if it
outlier finder  has either; ``label`` int64[batch]
==============  ============================================================================================
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ..base import Arrays, Labels
from ..errors import InvalidSource


def class_names(estimator: Any) -> tuple[str, ...] | None:
    """Return the names of the classes, in the order of the columns of probabilities."""
    classes = getattr(estimator, "classes_", None)
    if classes is None or not _is_classifier(estimator):
        return None
    return tuple(str(label) for label in np.asarray(classes).tolist())


def _labels_are_places(estimator: Any) -> bool:
    """Return whether ``label`` is the index into ``classes_``, not the class itself."""
    return np.asarray(estimator.classes_).dtype.kind not in "iu"


def label_outputs(estimator: Any, ask: Callable[[], Arrays]) -> dict[str, Labels]:
    """Return the label outputs whose label always belongs to the best score.

    Any other label is compared in every row, for example that of a support vector machine, which votes, or of
    a decision function whose columns are not the classes. ``ask`` returns the estimator's outputs for typical
    rows.
    """
    if not _is_classifier(estimator) or not hasattr(estimator, "predict_proba"):
        return {}
    classes = np.asarray(estimator.classes_)
    values = np.arange(len(classes)) if _labels_are_places(estimator) else classes
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


def of(estimator: Any) -> Callable[[npt.NDArray[Any]], Arrays]:
    """Return the function from rows to outputs.

    Raises:
        InvalidSource: the estimator neither predicts nor transforms, or returns several labels for a row.
    """
    if _has_shared_steps(estimator):
        first, last = estimator[:-1], of(estimator[-1])
        return lambda rows: last(first.transform(rows))
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
    raise InvalidSource(f"A {type(estimator).__name__} can neither predict nor transform.")


def _has_shared_steps(estimator: Any) -> bool:
    """Return whether all outputs are the last step's, for rows that the steps before it transform once."""
    from sklearn.pipeline import Pipeline

    return type(estimator) is Pipeline and len(estimator) > 1 and hasattr(estimator[-1], "fit")


def _classifier(estimator: Any) -> Callable[[npt.NDArray[Any]], Arrays]:
    classes = estimator.classes_
    if isinstance(classes, list) or np.asarray(classes).ndim != 1:
        raise InvalidSource(
            f"The {type(estimator).__name__} returns several labels per row. Save a separate "
            "estimator for each label."
        )
    classes = np.asarray(classes)
    places = {label: place for place, label in enumerate(classes.tolist())}

    def label(rows: npt.NDArray[Any]) -> npt.NDArray[np.generic]:
        predicted = np.asarray(estimator.predict(rows))
        if not _labels_are_places(estimator):
            return _labels(predicted)
        return np.array([places[one] for one in predicted.tolist()], np.int64)

    if hasattr(estimator, "predict_proba"):
        return lambda rows: {"probabilities": _columns(estimator.predict_proba(rows)), "label": label(rows)}

    if not hasattr(estimator, "decision_function"):  # for example with majority votes
        return lambda rows: {"label": label(rows)}

    def scores(rows: npt.NDArray[Any]) -> npt.NDArray[np.generic]:
        """Return one score per class.

        For two classes, scikit-learn returns only the second one's score; the first one's is its negative.
        """
        found: npt.NDArray[Any] = _columns(estimator.decision_function(rows))
        return np.hstack([-found, found]) if len(classes) == 2 and found.shape[1] == 1 else found

    return lambda rows: {"scores": scores(rows), "label": label(rows)}


def _labels(values: Any) -> npt.NDArray[np.generic]:
    return np.asarray(values).reshape(-1).astype(np.int64)


def _columns(values: Any) -> npt.NDArray[np.generic]:
    dense = values.toarray() if hasattr(values, "toarray") else np.asarray(values)
    return np.ascontiguousarray(dense.reshape(len(dense), -1))
