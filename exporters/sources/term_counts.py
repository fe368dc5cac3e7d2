"""The counts of the terms that an estimator's vectorizers find in a text.

A package counts the terms itself (``processing.vectorizer``), with the same regular expression in Python,
because ONNX's text operators have other regular expressions and another lower case. Every text of a probe is
counted by both and compared.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InvalidSource
from ..processing.vectorizer import Vectorizer
from .fitted import parts
from .hostile_texts import HOSTILE
from .native_functions import check_tokens

VECTORIZERS = ("CountVectorizer", "TfidfVectorizer")

Rows = npt.NDArray[Any]
_MOST_TERMS = 200_000  # a row of 0.8 MB
_LONGEST_TERM = 20  # words or characters
_MOST_CELLS = 1 << 23  # rows times columns in a class of probes
MOST_SAMPLES = 1 << 26  # rows times columns of the samples that are stored with a model
_FEWEST_ROWS = 8
_MOST_WORDS = 40  # of a typical text


def most_rows(width: int) -> int:
    """Return the limit of the rows in a class of probes."""
    return max(_FEWEST_ROWS, _MOST_CELLS // width)


def fitted_vectorizers(estimator: Any) -> list[Any]:
    """Return the fitted vectorizers inside an estimator, or none of a step that is a string."""
    return [part for part in parts(estimator) if _is_fitted(part)]


def _is_fitted(part: Any) -> bool:
    return type(part).__name__ in VECTORIZERS and "vocabulary_" in vars(part)


@dataclass(frozen=True)
class TermCounts:
    """The counts of one text by several vectorizers, side by side in a row.

    ``declared``: the vectorizers' parts of vectorizer.json. ``counting``: a package's counters for them.
    """

    found: tuple[Any, ...]  # all vectorizers
    places: tuple[
        int, ...
    ]  # for each of these, the index of the equal one among the different ``vectorizers``
    vectorizers: tuple[Any, ...]
    declared: tuple[dict[str, Any], ...]
    counting: tuple[Vectorizer, ...]
    _known: dict[bytes, str] = field(default_factory=dict)  # digest of a row → a text with these counts

    @property
    def width(self) -> int:
        return sum(len(one.terms) for one in self.counting)

    def counts(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
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

    def known(self, rows: Rows) -> list[str] | None:
        """Return texts that have these counts; None if one is not known, or there is no row."""
        found = [self._known.get(_digest(row)) for row in rows.astype(np.float32)]
        texts = [text for text in found if text is not None]
        return texts if texts and len(texts) == len(found) else None

    def learn(self, other: "TermCounts") -> None:
        """Take over the known texts of the same vectorizers."""
        self._known.update(other._known)

    def replacements(self) -> dict[int, Any]:
        """Return, by the ``id`` of each vectorizer found, an estimator that reads its counts from a row."""
        ends = np.cumsum([len(one.terms) for one in self.counting]).tolist()
        starts = [0, *ends[:-1]]
        return {
            id(one): _of_counts(one, starts[place], self.width)
            for one, place in zip(self.found, self.places, strict=True)
        }

    def draw(self, count: int, seed: int) -> npt.NDArray[np.float32]:
        """Draw the counts of random texts of a few terms."""
        random = np.random.default_rng(seed)
        texts = []
        for _ in range(count):
            part = self.counting[random.integers(len(self.counting))]
            chosen = random.integers(0, len(part.terms), random.integers(1, _MOST_WORDS))
            texts.append(" ".join(part.terms[place] for place in chosen.tolist()))
        return self.counts(texts)

    def probes(
        self, typical: Rows, coverage: dict[str, int], width: int
    ) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
        """Yield each term, and unknown words with texts that libraries split in different ways.

        ``coverage`` receives two counts: all terms, and the terms that occur in a probe, with those in
        ``typical``. ``width``: the columns of a whole row, which limit the number of rows.
        """
        every = self._of_every_term(most_rows(width))
        reached = typical.any(axis=0) | every.any(axis=0)
        for name, count in (("terms", self.width), ("terms_reached", int(reached.sum()))):
            coverage[name] = coverage.get(name, 0) + count
        yield "terms", every
        yield "text", self.counts([*HOSTILE, *self._mixed()])

    def _of_every_term(self, most: int) -> npt.NDArray[np.float32]:
        """Return the counts of a text for each term, or for several terms if there are more than ``most``."""
        terms = [term for part in self.counting for term in part.terms]
        step = -(-len(terms) // most)
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


def of(found: Sequence[Any]) -> TermCounts:
    """Return the counts by these vectorizers, those of equal ones once.

    Raises:
        InvalidSource: a vectorizer that a package cannot imitate.
    """
    declared = [_declared(one) for one in found]
    first = [declared.index(one) for one in declared]
    unique = sorted(set(first))
    return TermCounts(
        tuple(found),
        tuple(unique.index(place) for place in first),
        tuple(found[place] for place in unique),
        tuple(declared[place] for place in unique),
        tuple(Vectorizer(declared[place]) for place in unique),
    )


def check_size(width: int) -> None:
    """Raises InvalidSource for more terms than a row may have."""
    if width > _MOST_TERMS:
        raise InvalidSource(
            f"The vectorizers know {width:,} terms, but a row of counts can have at most "
            f"{_MOST_TERMS:,}. Fit with max_features or a larger min_df."
        )


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


def _digest(row: Rows) -> bytes:
    return hashlib.sha256(row.tobytes()).digest()


def _transformed(vectorizer: Any, texts: Sequence[str]) -> Rows:
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
