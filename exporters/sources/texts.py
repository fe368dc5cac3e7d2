"""Estimators that take texts: a CountVectorizer or TfidfVectorizer at the front of a pipeline.

The converted program takes the counts of the terms: in a copy of the estimator, each vectorizer is replaced
by a TfidfTransformer. The expected output is that of the original estimator. ``text_columns`` has vectorizers
that read one column of a table.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..base import Arrays
from ..errors import InvalidSource
from ..package import VECTORIZER
from . import term_counts
from .fitted import is_passthrough, parts
from .term_counts import MOST_SAMPLES, Rows, TermCounts, fitted_vectorizers

_TYPICAL_ROWS = 128


@dataclass(frozen=True)
class Texts:
    """An estimator of texts. ``program`` is the estimator that takes the counts of their ``terms``."""

    terms: TermCounts
    original: Any
    program: Any

    def answered(
        self, by_texts: Callable[[Any], Arrays], by_counts: Callable[[Rows], Arrays]
    ) -> Callable[[Rows], Arrays]:
        """Return a function from rows to outputs.

        It calls the original estimator for rows of known texts, and the program for other rows.
        """

        def answer(rows: Rows) -> Arrays:
            texts = self.terms.known(rows)
            return by_counts(rows) if texts is None else by_texts(texts)

        return answer

    def describe(self, name: str) -> dict[str, Any]:
        """Return ``vectorizer`` of metadata.json."""
        return {"input": name, "file": VECTORIZER}

    def document(self) -> dict[str, Any]:
        """Return the content of vectorizer.json."""
        return {"parts": list(self.terms.declared)}

    def learn(self, other: "Texts") -> None:
        """Take over the known texts of the same estimator."""
        self.terms.learn(other.terms)

    def golden(self, name: str, rows: Rows) -> dict[str, npt.NDArray[Any]]:
        """Return the texts of the rows of the input ``name``; empty if one is not known."""
        known = self.terms.known(rows)
        return {} if known is None else {f"text:{name}": np.array(known, np.str_)}

    def encoded(self, texts: list[str]) -> npt.NDArray[np.float32]:
        """Encode sample texts as rows of the model's input. Raises ValueError: there are too many texts."""
        if len(texts) * self.terms.width > MOST_SAMPLES:
            raise ValueError(f"{len(texts):,} rows of {self.terms.width:,} terms are too many.")
        return self.terms.counts(texts)

    def typical(self) -> npt.NDArray[np.float32]:
        return self.terms.draw(min(_TYPICAL_ROWS, term_counts.most_rows(self.terms.width)), 1)

    def probes(self, coverage: dict[str, int]) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
        """Yield typical texts, and the probes of their terms."""
        typical = self.typical()
        yield "typical", typical
        yield from self.terms.probes(typical, coverage, self.terms.width)


def of(estimator: Any) -> Texts | None:
    """Return the texts of an estimator; None if it has no fitted vectorizer.

    Raises:
        InvalidSource: a vectorizer that does not read the input texts directly, or that is too large.
    """
    found = fitted_vectorizers(estimator)
    if not found:
        return None
    require_front(estimator)
    terms = term_counts.of(found)
    term_counts.check_size(terms.width)
    program = copy.deepcopy(estimator, terms.replacements())
    if not hasattr(program, "n_features_in_"):  # for example a calibration, whose estimator had none
        with suppress(AttributeError):  # from a pipeline, which reads its first step
            program.n_features_in_ = terms.width
    return Texts(terms, estimator, program)


def require_front(part: Any) -> None:
    """Raises InvalidSource for a vectorizer behind another step, or in a ColumnTransformer."""
    for holder in parts(part):
        if hasattr(holder, "transformers_") and fitted_vectorizers(holder):
            raise InvalidSource(
                "A vectorizer in a ColumnTransformer reads a column without a name, or one that another step "
                "made. Fit the outermost ColumnTransformer on a data frame, and select the texts in it."
            )
        steps = [step for _, step in getattr(holder, "steps", ()) if not is_passthrough(step)]
        if any(fitted_vectorizers(step) for step in steps[1:]):
            raise behind_another_step()


def behind_another_step() -> InvalidSource:
    return InvalidSource(
        "A vectorizer reads the output of another step of the pipeline. Put it at the front, where it "
        "reads the original texts."
    )
