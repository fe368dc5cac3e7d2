"""Columns of texts in a table: a vectorizer in a ColumnTransformer, beside columns of numbers and categories.

A row of the converted program has the table's columns first, with a zero in the place of each text, and then
the counts of the terms of each text. In the program each vectorizer is replaced as in ``texts``, and the
column transformer passes the counts to it instead of the column.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InvalidSource
from . import term_counts, texts
from .columns import selects, table_readers
from .term_counts import Rows, TermCounts, fitted_vectorizers


@dataclass(frozen=True)
class TextColumns:
    """The texts of a table of ``first`` columns: column → its counts, in the order of a row.

    ``selected``: per column transformer that reads the table, the name of each transformer that reads a text
    → its column.
    """

    first: int
    counts: Mapping[int, TermCounts]
    selected: tuple[Mapping[str, int], ...]

    @property
    def width(self) -> int:
        """Return the number of columns of a whole row."""
        return self.first + sum(one.width for one in self.counts.values())

    def blocks(self) -> Iterator[tuple[int, slice, TermCounts]]:
        """Yield each column of texts, the places of its counts in a row, and the counts."""
        start = self.first
        for column, one in self.counts.items():
            yield column, slice(start, start + one.width), one
            start += one.width

    def counters(self, names: Sequence[str]) -> dict[str, TermCounts]:
        return {names[column]: one for column, one in self.counts.items()}

    def known(self, rows: Rows) -> dict[int, list[str]] | None:
        """Return the texts of each column; None if the counts of a row are those of no known text."""
        found = {column: one.known(rows[:, block]) for column, block, one in self.blocks()}
        known = {column: given for column, given in found.items() if given is not None}
        return known if len(known) == len(found) else None

    def drawn(self, rows: Rows, seed: int) -> Rows:
        """Return the rows with the counts of random texts."""
        rows = rows.copy()
        for column, block, one in self.blocks():
            rows[:, column] = 0
            rows[:, block] = one.draw(len(rows), seed + column)
        return rows

    def beside(self, rows: Rows, typical: Rows) -> Rows:
        """Return rows of the table's columns, completed by the texts of ``typical``; as many as allowed."""
        most = max(len(typical), term_counts.most_rows(self.width))
        if len(rows) > most:
            rows = rows[np.linspace(0, len(rows) - 1, most).round().astype(int)]
        chosen = typical[np.arange(len(rows)) % len(typical)]
        chosen[:, : self.first] = rows
        chosen[:, list(self.counts)] = 0
        return chosen

    def probes(self, typical: Rows, coverage: dict[str, int]) -> Iterator[tuple[str, Rows]]:
        """Yield the probes of each column's terms, in rows that are typical otherwise."""
        for _, block, one in self.blocks():
            for kind, found in one.probes(typical[:, block], coverage, self.width):
                rows = typical[np.arange(len(found)) % len(typical)]
                rows[:, block] = found
                yield kind, rows

    def learn(self, other: "TextColumns") -> None:
        """Take over the known texts of the same columns."""
        for column, one in self.counts.items():
            one.learn(other.counts[column])

    def replacements(self) -> dict[int, Any]:
        """Return the replacements of all vectorizers by their ``id``."""
        return {key: one for counts in self.counts.values() for key, one in counts.replacements().items()}

    def select_counts(self, program: Any) -> None:
        """Make the column transformers of the program, whose vectorizers are replaced, select the counts."""
        blocks = {column: list(range(block.start, block.stop)) for column, block, _ in self.blocks()}
        readers = list(table_readers(program))
        for part in readers:
            if "n_features_in_" in vars(part):
                part.n_features_in_ = self.width
        for part, selected in zip(filter(selects, readers), self.selected, strict=True):
            places = {name: blocks[column] for name, column in selected.items()}
            part._transformer_to_input_indices.update(places)
            part.transformers_ = [
                (name, one, places.get(name, columns)) for name, one, columns in part.transformers_
            ]

    def document(self, names: Sequence[str]) -> dict[str, Any]:
        """Return the content of vectorizer.json."""
        return {
            "parts": [
                {"column": names[column], **declared}
                for column, one in self.counts.items()
                for declared in one.declared
            ]
        }


def of(estimator: Any, names: Sequence[str]) -> TextColumns | None:
    """Return the columns of texts; None if the estimator has no fitted vectorizer.

    Raises:
        InvalidSource: a vectorizer does not read one column of the table, or there are too many terms.
    """
    everywhere = fitted_vectorizers(estimator)
    if not everywhere:
        return None
    found: dict[int, list[Any]] = {}
    selected: list[dict[str, int]] = []
    for part in filter(selects, table_readers(estimator)):
        selected.append({})
        for name, one, columns in part.transformers_:
            vectorizers = fitted_vectorizers(one)
            if not vectorizers:
                continue
            texts.require_front(one)
            if not isinstance(columns, (int, np.integer)):
                raise InvalidSource(
                    f"The transformer {name!r} gives a vectorizer a list of columns. Name one column: "
                    f"{names[part._transformer_to_input_indices[name][0]]!r} instead of a list of it."
                )
            (column,) = part._transformer_to_input_indices[name]
            selected[-1][name] = column
            found.setdefault(column, []).extend(vectorizers)
    if {id(one) for one in everywhere} != {id(one) for some in found.values() for one in some}:
        raise texts.behind_another_step()
    counts = {column: term_counts.of(found[column]) for column in sorted(found)}
    term_counts.check_size(sum(one.width for one in counts.values()))
    return TextColumns(len(names), counts, tuple(selected))
