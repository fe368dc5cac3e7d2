"""Convert texts to counts of terms, for a model of texts or for the columns of texts of a table.

``vectorizer.json`` of a package lists ``parts``, whose counts are concatenated in the model's input:

column         of a table: the name of the column of texts; absent in a model of texts alone
analyzer       ``word``: terms are words; ``char``, ``char_wb``: strings of characters, in ``char_wb`` within
               words, each with a space on both sides
ngram_range    [shortest, longest]: how many words or characters are one term
lowercase      whether the text is lower-cased first, as ``str.lower`` does
strip_accents  null; ``unicode``: NFKD without combining characters; ``ascii``: NFKD, ASCII
               characters only
token_pattern  the regular expression of a word, for ``re.findall``; null unless the analyzer is ``word``
stop_words     words that are left out; null: none
binary         whether a term counts 1 even if it occurs several times
terms          the terms, in the order of the columns

Needs numpy, and nothing of this project: a package's Python wrapper contains this file.
"""

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

MAX_CHARACTERS = 1_000_000  # per text: counting takes up to a second
# A few characters or classes of them; only the last may repeat.
_CHARACTER = r"(?:\\[wdS]|\[(?:[^\[\]\\^]|\\[wd.'-])+\]|[A-Za-z0-9])"
_TOKENS = re.compile(rf"(?:\(\?u\))?(\\b)?{_CHARACTER}{{0,7}}({_CHARACTER})(?:\+|\{{\d{{1,2}},\}})?(\\b)?")
_SPACES = re.compile(r"\s\s+")


def is_quick(pattern: str) -> bool:
    """Return whether a search with the pattern takes time proportional to the text's length.

    ``[a-z]+\\b`` does not: on letters before a digit it fails from each letter, after all letters that
    follow. With a ``\\b`` in front it starts once per word; after ``\\w+`` the ``\\b`` never fails.
    """
    found = _TOKENS.fullmatch(pattern)
    if found is None:
        return False
    begins, last, ends = found.groups()
    return ends is None or begins is not None or last == r"\w"


class Vectorizer:
    """Counts the terms of texts. ``declared``: one of the ``parts`` of vectorizer.json.

    Raises ValueError if its ``token_pattern`` is not ``is_quick``.
    """

    def __init__(self, declared: Mapping[str, Any]) -> None:
        self.terms: Sequence[str] = declared["terms"]
        self._places = {term: place for place, term in enumerate(self.terms)}
        self._analyzer = declared["analyzer"]
        self._shortest, self._longest = declared["ngram_range"]
        self._lowercase = declared["lowercase"]
        self._strip_accents = declared["strip_accents"]
        self._words = _compiled(declared["token_pattern"])
        self._stop_words = frozenset(declared["stop_words"] or ())
        self._binary = declared["binary"]

    def counts(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return float32[texts, terms]. Raises ValueError for a text of more than MAX_CHARACTERS."""
        rows = np.zeros((len(texts), len(self.terms)), np.float32)
        for row, text in zip(rows, texts, strict=True):
            found: dict[int, int] = {}
            for term in self._found(text):
                place = self._places.get(term)
                if place is not None:
                    found[place] = found.get(place, 0) + 1
            row[list(found)] = 1 if self._binary else list(found.values())
        return rows

    def _found(self, text: str) -> Iterator[str]:
        """Yield the terms of a text, each as often as it occurs."""
        if len(text) > MAX_CHARACTERS:
            raise ValueError(f"A text has {len(text):,} characters, more than {MAX_CHARACTERS:,}.")
        text = self._plain(text)
        if self._words is not None:
            words = [word for word in self._words.findall(text) if word not in self._stop_words]
            return _runs(words, self._shortest, self._longest)
        text = _SPACES.sub(" ", text)
        if self._analyzer == "char":
            return _pieces(text, self._shortest, self._longest)
        padded = (f" {word} " for word in text.split())
        return (
            term
            for word in padded
            # A word that is shorter than the shortest term counts once.
            for term in _pieces(word, min(self._shortest, len(word)), self._longest)
        )

    def _plain(self, text: str) -> str:
        if self._lowercase:
            text = text.lower()
        if self._strip_accents is None or text.isascii():
            return text
        text = unicodedata.normalize("NFKD", text)
        if self._strip_accents == "ascii":
            return text.encode("ascii", "ignore").decode()
        return "".join(letter for letter in text if not unicodedata.combining(letter))


def _compiled(pattern: str | None) -> re.Pattern[str] | None:
    if pattern is None:
        return None
    if not is_quick(pattern):
        raise ValueError(f"The token_pattern {pattern[:80]!r} may take hours on some texts.")
    return re.compile(pattern)


def _runs(words: Sequence[str], shortest: int, longest: int) -> Iterator[str]:
    """Yield every sequence of ``shortest`` to ``longest`` words, joined by spaces."""
    for length in range(shortest, min(longest, len(words)) + 1):
        for start in range(len(words) - length + 1):
            yield " ".join(words[start : start + length])


def _pieces(text: str, shortest: int, longest: int) -> Iterator[str]:
    for length in range(shortest, min(longest, len(text)) + 1):
        for start in range(len(text) - length + 1):
            yield text[start : start + length]


class Counter:
    """Counts the terms of several parts of vectorizer.json, whose counts are concatenated."""

    def __init__(self, parts: Sequence[Mapping[str, Any]]) -> None:
        self._parts = [Vectorizer(part) for part in parts]
        self.width = sum(len(part.terms) for part in self._parts)

    def counts(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return float32[texts, width]. Raises ValueError as ``Vectorizer.counts``."""
        return np.hstack([part.counts(texts) for part in self._parts])


class Vectorizers:
    """Counts the terms of a model's texts. ``declared``: ``vectorizer`` of metadata.json."""

    def __init__(self, declared: Mapping[str, Any], folder: Path) -> None:
        self._input: str = declared["input"]
        self._counter = Counter(_parts(folder / declared["file"]))

    def __call__(self, texts: Sequence[str]) -> dict[str, npt.NDArray[np.float32]]:
        """Return float32[texts, terms of all parts] for the model's input.

        Raises ValueError as ``Vectorizer.counts``.
        """
        return {self._input: self._counter.counts(texts)}


def of_columns(path: Path) -> dict[str, Counter]:
    """Return the counter of each column of texts of a table."""
    parts = _parts(path)
    return {
        name: Counter([part for part in parts if part["column"] == name])
        for name in dict.fromkeys(part["column"] for part in parts)
    }


def _parts(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["parts"]
    return found
