"""Find the best classes in the scores of a classifier."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


def top_k(
    logits: npt.NDArray[np.floating[Any]], classes: Sequence[str] | None, k: int = 5, softmax: bool = True
) -> list[list[dict[str, Any]]]:
    """Return the ``k`` best classes of each row, best first; of equal scores the lower id comes first.

    Args:
        logits: float[N, C].
        classes: C labels; without labels, the name of a class is its id.
        softmax: convert logits to probabilities; False if the model did that already.

    Raises:
        ValueError: not two axes, or the numbers of classes and labels differ.
    """
    if logits.ndim != 2:
        raise ValueError(
            f"Classification needs scores of the shape [batch, classes], not {list(logits.shape)}."
        )
    if classes is not None and len(classes) != logits.shape[1]:
        raise ValueError(
            f"The model scores {logits.shape[1]} classes, but {len(classes)} class names are declared."
        )
    scores = probabilities(logits) if softmax else np.asarray(logits, dtype=np.float32)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return [
        [
            {
                "class_id": int(index),
                "class": classes[index] if classes is not None else str(int(index)),
                "confidence": float(row[index]),
            }
            for index in order
        ]
        for row, order in zip(scores, best, strict=True)
    ]


def probabilities(logits: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float32]:
    """Return the softmax of float[N, C] as float32[N, C]."""
    scores = np.asarray(logits, dtype=np.float32)
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: npt.NDArray[np.float32] = scores / scores.sum(axis=1, keepdims=True)
    return shares
