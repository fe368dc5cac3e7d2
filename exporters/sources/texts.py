"""Estimators that take texts: a CountVectorizer or TfidfVectorizer at the front of a pipeline.

The converted program takes the counts of the terms: in a copy of the estimator, each vectorizer is replaced
by a TfidfTransformer. A package counts the terms itself (``processing.vectorizer``), with the same regular
expression in Python, because ONNX's text operators have other regular expressions and another lower case.
Every text of a probe is counted by both and compared. The expected output is that of the original estimator.
"""

import copy
import hashlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..base import Arrays
from ..errors import InvalidSource
from ..processing.vectorizer import Vectorizer
from .fitted import is_passthrough, parts
from .hostile_texts import HOSTILE
from .native_functions import check_tokens

FILE = "vectorizer.json"
VECTORIZERS = ("CountVectorizer", "TfidfVectorizer")

Rows = npt.NDArray[Any]
_MOST_TERMS = 200_000  # a row of 0.8 MB
_LONGEST_TERM = 20  # words or characters
_MOST_CELLS = 1 << 23  # rows times columns in a class of probes
_TYPICAL_ROWS = 128
_MOST_WORDS = 40  # of a typical text


@dataclass(frozen=True)
class Texts:
    """The vectorizers of an estimator. ``program`` is the estimator that takes their counts.

    ``counting``: for each of the ``vectorizers``, the counter whose counts are concatenated.
    """

    vectorizers: tuple[Any, ...]
    declared: tuple[dict[str, Any], ...]
    original: Any
    program: Any
    counting: tuple[Vectorizer, ...]
    _known: dict[bytes, str] = field(default_factory=dict)  # digest of a row → a text with these counts

    @property
    def width(self) -> int:
        return sum(len(one.terms) for one in self.counting)

    def counts(self, texts: list[str]) -> npt.NDArray[np.float32]:
        """Return the counts as float32[texts, terms].

        Raises:
            InvalidSource: the vectorizer itself counts differently.
        """
        blocks = []
        for vectorizer, counting in zip(self.vectorizers, self.counting, strict=True):
            ours, theirs = counting.counts(texts), _transformed(vectorizer, texts)
            wrong = np.flatnonzero((ours != theirs).any(axis=1))
            if len(wrong):
                raise InvalidSource(
                    f"The model's {type(vectorizer).__name__} counts the terms of the text "
                    f"{texts[wrong[0]][:80]!r} differently, because its dtype is {vectorizer.dtype}. "
                    "Fit it with its default dtype."
                )
            blocks.append(ours)
        rows = np.hstack(blocks)
        for row, text in zip(rows, texts, strict=True):
            self._known[_digest(row)] = text
        return rows

    def answered(
        self, by_texts: Callable[[Any], Arrays], by_counts: Callable[[Rows], Arrays]
    ) -> Callable[[Rows], Arrays]:
        """Return a function from rows to outputs.

        It calls the original estimator for rows of known texts, and the program for other rows.
        """

        def answer(rows: Rows) -> Arrays:
            texts = self.known(rows)
            return by_counts(rows) if texts is None else by_texts(texts)

        return answer

    def known(self, rows: Rows) -> list[str] | None:
        """Return texts that have these counts; None if one is not known, or there is no row."""
        found = [self._known.get(_digest(row)) for row in rows.astype(np.float32)]
        texts = [text for text in found if text is not None]
        return texts if texts and len(texts) == len(found) else None

    def describe(self, name: str) -> dict[str, Any]:
        """Return ``vectorizer`` of metadata.json."""
        return {"input": name, "file": FILE}

    def document(self) -> dict[str, Any]:
        """Return the content of vectorizer.json."""
        return {"parts": list(self.declared)}

    def draw(self, count: int, seed: int) -> npt.NDArray[np.float32]:
        """Draw the counts of random texts of a few terms."""
        random = np.random.default_rng(seed)
        texts = []
        for _ in range(count):
            part = self.counting[random.integers(len(self.counting))]
            chosen = random.integers(0, len(part.terms), random.integers(1, _MOST_WORDS))
            texts.append(" ".join(part.terms[place] for place in chosen.tolist()))
        return self.counts(texts)

    def typical(self) -> npt.NDArray[np.float32]:
        return self.draw(max(8, min(_TYPICAL_ROWS, _MOST_CELLS // self.width)), 1)

    def probes(self, coverage: dict[str, int]) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
        """Yield typical texts, each term, unknown words and texts that libraries split in different ways.

        ``coverage`` receives two counts: all terms, and the terms that occur in a probe.
        """
        typical = self.typical()
        yield "typical", typical
        reached = typical.any(axis=0)
        every = self._of_every_term()
        reached |= every.any(axis=0)
        coverage |= {"terms": self.width, "terms_reached": int(reached.sum())}
        yield "terms", every
        yield "text", self.counts([*HOSTILE, *self._mixed()])

    def _of_every_term(self) -> npt.NDArray[np.float32]:
        """Return the counts of a text for each term, or for several terms if there are many."""
        terms = [term for part in self.counting for term in part.terms]
        step = -(-len(terms) // max(8, _MOST_CELLS // self.width))
        return self.counts([" ".join(terms[start : start + step]) for start in range(0, len(terms), step)])

    def _mixed(self) -> list[str]:
        """Return known terms in another case, repeated, next to unknown words, and between punctuation."""
        first, last = self.counting[0].terms[0], self.counting[-1].terms[-1]
        both = (first, last)
        return [
            *(change(term) for term in both for change in (str.upper, str.title, str.swapcase)),
            *(f"{term} unbekannt xyzzy" for term in both),
            *(f"({term}), {term}! {term}-{term} {term}_{term}" for term in both),
            *(f"{term} " * 300 for term in both),
            f"{first} {last} {first}",
        ]


def of(estimator: Any) -> Texts | None:
    """Return the texts of an estimator; None if it has no fitted vectorizer.

    Raises:
        InvalidSource: a vectorizer that does not read the input texts directly, or that is too large.
    """
    found = [part for part in parts(estimator) if _is_fitted(part)]
    if not found:
        return None
    _require_front(estimator)
    declared = [_declared(part) for part in found]
    unique = [place for place, one in enumerate(declared) if declared.index(one) == place]
    total = sum(len(declared[place]["terms"]) for place in unique)
    if total > _MOST_TERMS:
        raise InvalidSource(
            f"The vectorizers know {total:,} terms, but a row of counts can have at most "
            f"{_MOST_TERMS:,}. Fit with max_features or a larger min_df."
        )
    ends = np.cumsum([len(declared[place]["terms"]) for place in unique]).tolist()
    starts = dict(zip(unique, [0, *ends[:-1]], strict=True))
    counted = {
        id(part): _of_counts(part, starts[declared.index(one)], total)
        for part, one in zip(found, declared, strict=True)
    }
    program = copy.deepcopy(estimator, dict(counted))
    if not hasattr(program, "n_features_in_"):  # for example a calibration, whose estimator had none
        with suppress(AttributeError):  # from a pipeline, which reads its first step
            program.n_features_in_ = total
    return Texts(
        tuple(found[place] for place in unique),
        tuple(declared[place] for place in unique),
        estimator,
        program,
        tuple(Vectorizer(declared[place]) for place in unique),
    )


def _is_fitted(part: Any) -> bool:
    return type(part).__name__ in VECTORIZERS and "vocabulary_" in vars(part)


def _digest(row: Rows) -> bytes:
    return hashlib.sha256(row.tobytes()).digest()


def _transformed(vectorizer: Any, texts: list[str]) -> Rows:
    from sklearn.feature_extraction.text import CountVectorizer

    counts: Rows = CountVectorizer.transform(vectorizer, texts).toarray()
    return counts


def _declared(vectorizer: Any) -> dict[str, Any]:
    """Return a vectorizer's part of vectorizer.json."""
    places = vectorizer.vocabulary_
    shortest, longest = vectorizer.ngram_range
    if not places or not all(isinstance(term, str) for term in places):
        raise InvalidSource("A vectorizer has no terms, or terms that are not texts. Fit it on texts.")
    if not 1 <= shortest <= longest <= _LONGEST_TERM:
        raise InvalidSource(
            f"A vectorizer's ngram_range is {vectorizer.ngram_range}; only ranges within 1 and "
            f"{_LONGEST_TERM} are supported. Fit with a smaller one."
        )
    by_word = vectorizer.analyzer == "word"
    if callable(vectorizer.analyzer) or vectorizer.preprocessor or vectorizer.tokenizer:
        raise InvalidSource(
            "A vectorizer calls a custom function (analyzer, preprocessor or tokenizer), which a "
            "package cannot contain. Fit it with the analyzer 'word', 'char' or 'char_wb' and its "
            "options."
        )
    check_tokens(vectorizer.token_pattern if by_word else None)
    stop_words = vectorizer.get_stop_words() if by_word else None
    return {
        "analyzer": vectorizer.analyzer,
        "ngram_range": [int(shortest), int(longest)],
        "lowercase": bool(vectorizer.lowercase),
        "strip_accents": vectorizer.strip_accents,
        "token_pattern": vectorizer.token_pattern if by_word else None,
        "stop_words": None if stop_words is None else sorted(map(str, stop_words)),
        "binary": bool(vectorizer.binary),
        "terms": sorted(places, key=places.__getitem__),
    }


def _of_counts(vectorizer: Any, start: int, total: int) -> Any:
    """Return a replacement of the vectorizer that takes ``total`` counts; its own begin at ``start``."""
    from sklearn.compose import ColumnTransformer
    from sklearn.feature_extraction.text import TfidfTransformer

    width = len(vectorizer.vocabulary_)
    weights = getattr(vectorizer, "_tfidf", None)
    if weights is None:  # raw counts, sparse like a vectorizer's
        weights = TfidfTransformer(norm=None, use_idf=False).fit(np.zeros((1, width)))
    if width == total:
        return weights
    columns = list(range(start, start + width))
    chosen = ColumnTransformer([("counts", TfidfTransformer(), columns)]).fit(np.zeros((1, total)))
    chosen.transformers_ = [("counts", weights, columns)]
    return chosen


def _require_front(part: Any) -> None:
    """Raises InvalidSource for a vectorizer behind another step, or beside columns of a table."""
    for holder in parts(part):
        if hasattr(holder, "transformers_") and any(map(_is_fitted, parts(holder))):
            raise InvalidSource(
                "A vectorizer in a ColumnTransformer reads a column of texts next to other "
                "columns, which is not supported. Put the vectorizer at the front of a separate "
                "pipeline that takes texts only."
            )
        steps = [step for _, step in getattr(holder, "steps", ()) if not is_passthrough(step)]
        if any(_is_fitted(one) for step in steps[1:] for one in parts(step)):
            raise InvalidSource(
                "A vectorizer reads the output of another step of the pipeline. Put it at the "
                "front, where it reads the original texts."
            )
