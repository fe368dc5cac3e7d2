"""Convert images or texts to a packaged model's inputs, and its outputs to predictions.

Needs numpy, Pillow to decode images, and ``tokenizers`` for texts. Of this project it needs only the modules
beside it: a package's Python wrapper contains these files.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .classify import top_k
from .detect import detect
from .image import Geometry, Picture, prepare, read
from .table import Table
from .vectorizer import Vectorizers, of_columns

_Arrays: TypeAlias = dict[str, npt.NDArray[np.generic]]
Predictions: TypeAlias = list[list[dict[str, Any]]]


class Pipeline:
    """``metadata`` is the content of metadata.json, ``folder`` the package with its tokenizer or terms."""

    def __init__(self, metadata: Mapping[str, Any], folder: Path) -> None:
        classes = metadata["classes"]
        self.classes = [entry["name"] for entry in classes] if classes else None
        self.preprocessing = metadata["preprocessing"]
        self.postprocessing = metadata["postprocessing"]
        self.inputs = metadata["input_specs"]
        # Inputs in which NaN is a missing value.
        self.missing = frozenset(spec["name"] for spec in self.inputs if spec.get("missing"))
        self.table = _table(metadata["table"], folder) if metadata.get("table") else None
        self._tokenize: Any = None
        if metadata.get("vectorizer"):
            self._tokenize = Vectorizers(metadata["vectorizer"], folder)
        if self.preprocessing is not None and "tokenizer" in self.preprocessing:
            from .text import Tokenizer

            self._tokenize = Tokenizer(self.preprocessing["tokenizer"], folder)

    @property
    def takes(self) -> str | None:
        """Return ``images``, ``texts``, or None: tensors only."""
        if self._tokenize is not None:
            return "texts"
        return None if self.preprocessing is None else "images"

    def prepare(self, items: Sequence[Picture]) -> tuple[_Arrays, list[Geometry] | None]:
        """Return the model's inputs for a batch of images or texts, and the images' geometries.

        Raises:
            ValueError: an item is no image or text, or does not fit into one batch, or the package declares
                no preprocessing.
            OSError: a file that cannot be read.
        """
        if self.takes is None:
            raise ValueError("The package declares no preprocessing: pass arrays by the names of its inputs.")
        if self._tokenize is not None:
            if not all(isinstance(item, str) for item in items):
                raise ValueError("The model takes texts.")
            tokens = self._tokenize([str(item) for item in items])
            return {spec["name"]: tokens[spec["name"]].astype(spec["dtype"]) for spec in self.inputs}, None
        prepared = [prepare(read(item), self.preprocessing or {}) for item in items]
        if len({array.shape for array, _ in prepared}) != 1:
            raise ValueError("All images of a batch must have the same size, unless a resize is declared.")
        batch = np.concatenate([array for array, _ in prepared])
        return {self.inputs[0]["name"]: batch}, [geometry for _, geometry in prepared]

    def records(self, data: Any, limit_bytes: int | None = None) -> _Arrays:
        """Return the model's input for rows with named columns. The arguments are those of ``Table.rows``.

        Raises:
            ColumnError, ValueError: as ``Table.rows``; or the package declares no table.
        """
        if self.table is None:
            raise ValueError("The model's columns have no names: pass arrays by the names of its inputs.")
        dtype = next(spec["dtype"] for spec in self.inputs if spec["name"] == self.table.input)
        return {self.table.input: self.table.rows(data, dtype, limit_bytes)}

    def predictions(
        self,
        outputs: Mapping[str, npt.NDArray[Any]],
        geometries: Sequence[Geometry] | None = None,
        **overrides: Any,
    ) -> Predictions | None:
        """Apply the declared postprocessing to the first output, per row; None if none is declared.

        Args:
            outputs: in the order of ``output_spec``.
            geometries: the result of ``prepare``; without it, a detector's boxes stay in input pixels.
            overrides: for this call, a detector's confidence_threshold, iou_threshold or max_detections, or a
                classifier's top_k.

        Raises:
            ValueError: the output does not fit the declaration.
        """
        declared = self.postprocessing
        if declared is None:
            return None
        first = next(iter(outputs.values()))
        if "nms" in declared:
            declared = {**declared, "nms": {**declared["nms"], **overrides}}
            return detect(first, geometries or [self._unmoved()] * len(first), declared, self.classes)
        softmax = declared.get("softmax", False) and not declared.get("embedded", False)
        return top_k(first, self.classes, overrides.get("top_k", declared.get("top_k", 1)), softmax)

    def _unmoved(self) -> Geometry:
        resize = (self.preprocessing or {}).get("resize")
        width, height = resize["size"] if resize else (1, 1)
        return Geometry(width, height, width, height, 0, 0, width, height)


def _table(declared: Mapping[str, Any], folder: Path) -> Table:
    file = declared.get("vectorizer")
    return Table(declared, of_columns(folder / file) if file else None)
