"""Read XGBoost's UBJSON: arrays of one type become numpy arrays, everything else Python objects."""

from typing import Any

import numpy as np

_NUMBERS: dict[bytes, np.dtype[Any]] = {
    b"i": np.dtype(">i1"),
    b"U": np.dtype(">u1"),
    b"I": np.dtype(">i2"),
    b"l": np.dtype(">i4"),
    b"L": np.dtype(">i8"),
    b"d": np.dtype(">f4"),
    b"D": np.dtype(">f8"),
}
_WORDS = {b"T": True, b"F": False, b"Z": None}
_DEEPEST = 64


def loads(data: bytes) -> Any:
    """Parse a document. Raises ValueError if it is no UBJSON or truncated."""
    reader = _Reader(data)
    value = reader.value(0)
    if reader.at != len(data):
        raise ValueError("more than one value")
    return value


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def value(self, depth: int) -> Any:
        mark = self._take(1)
        if depth > _DEEPEST:
            raise ValueError("too deep")
        if mark in _NUMBERS:
            return self._numbers(mark, 1)[0].item()
        if mark in _WORDS:
            return _WORDS[mark]
        if mark == b"S":
            return self._text()
        if mark == b"C":
            return self._take(1).decode()
        if mark == b"[":
            return self._array(depth)
        if mark == b"{":
            return self._object(depth)
        raise ValueError("no such mark")

    def _array(self, depth: int) -> Any:
        kind, count = self._header()
        if kind is not None:
            if count is None or kind not in _NUMBERS:
                raise ValueError("an array without a known type")
            return self._numbers(kind, count)
        if count is not None:
            return [self.value(depth + 1) for _ in range(count)]
        found = []
        while not self._ends(b"]"):
            found.append(self.value(depth + 1))
        return found

    def _object(self, depth: int) -> dict[str, Any]:
        kind, count = self._header()
        if kind is not None:
            raise ValueError("an object with a single type")
        found: dict[str, Any] = {}
        while len(found) < count if count is not None else not self._ends(b"}"):
            name = self._text()
            if name in found:
                raise ValueError("a name twice")
            found[name] = self.value(depth + 1)
        return found

    def _header(self) -> tuple[bytes | None, int | None]:
        """Return the type and the number of elements, if they are written before the elements."""
        kind = self._take(1) if self._ends(b"$") else None
        return kind, self._length() if self._ends(b"#") else None

    def _ends(self, mark: bytes) -> bool:
        if self.data[self.at : self.at + 1] != mark:
            return False
        self.at += 1
        return True

    def _text(self) -> str:
        return self._take(self._length()).decode()

    def _length(self) -> int:
        mark = self._take(1)
        if mark not in (b"i", b"U", b"I", b"l", b"L"):
            raise ValueError("no length")
        length = int(self._numbers(mark, 1)[0])
        if length < 0:
            raise ValueError("a length below zero")
        return length

    def _numbers(self, mark: bytes, count: int) -> Any:
        dtype = _NUMBERS[mark]
        return np.frombuffer(self._take(count * dtype.itemsize), dtype)

    def _take(self, size: int) -> bytes:
        part = self.data[self.at : self.at + size]
        if len(part) != size:
            raise ValueError("cut short")
        self.at += size
        return part
