"""Compute the decompressed size of a Parquet file's pages from their headers only.

polars does not report it, and decompresses a page as soon as it reads one of its values. Headers are structs
in Thrift's compact protocol; the field numbers are those of the format:
https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from typing import Any

_MAGIC = b"PAR1"
_DAMAGED = "The file is damaged."
# The limit of all headers together, so that reading them takes at most a second or two.
_MAX_HEADER_BYTES = 2_000_000
_ROW_GROUPS, _COLUMNS, _META_DATA = 4, 1, 3
_CHUNK_BYTES, _FIRST_PAGE, _DICTIONARY = 7, 9, 11
_UNPACKED, _PACKED = 2, 3


def unpacked_bytes(body: bytes) -> int:
    """Return the total decompressed size of all pages.

    Raises:
        ValueError: the file is damaged, or has too many columns or pages.
    """
    try:
        return _unpacked_bytes(body)
    except (LookupError, TypeError, AttributeError, RecursionError):  # a header has an unexpected form
        raise ValueError(_DAMAGED) from None


def _unpacked_bytes(body: bytes) -> int:
    end = len(body) - 8
    start = end - int.from_bytes(body[end : end + 4], "little")
    if body[end + 4 :] != _MAGIC or start < 0:
        raise ValueError("The file has no footer.")
    headers = _Thrift(body, start)
    total = 0
    for group in headers.struct()[_ROW_GROUPS]:
        for column in group[_COLUMNS]:
            chunk = column[_META_DATA]
            headers.at = chunk.get(_DICTIONARY) or chunk[_FIRST_PAGE]
            stop = headers.at + chunk[_CHUNK_BYTES]
            while headers.at < stop:
                page = headers.struct()
                if page[_UNPACKED] < 0 or page[_PACKED] < 0:
                    raise ValueError(_DAMAGED)
                total += page[_UNPACKED]
                headers.at += page[_PACKED]
    return total


class _Thrift:
    """Reads from ``at``. Bytes and doubles are skipped."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self.at = at
        self._left = _MAX_HEADER_BYTES

    def struct(self) -> dict[int, Any]:
        found: dict[int, Any] = {}
        field = 0
        while head := self._byte():
            field = field + (head >> 4) if head >> 4 else self._integer()
            kind = head & 15
            found[field] = kind == 1 if kind in (1, 2) else self._value(kind)
        return found

    def _value(self, kind: int) -> Any:
        match kind:
            case 1 | 2 | 3:
                return self._byte()
            case 4 | 5 | 6:
                return self._integer()
            case 7:
                self._byte()
                self.at += 7
            case 8:
                size = self._unsigned()
                self.at += size
            case 9 | 10:
                head = self._byte()
                size = head >> 4 if head >> 4 < 15 else self._unsigned()
                return [self._value(head & 15) for _ in range(size)]
            case 12:
                return self.struct()
            case _:  # the format has no maps
                raise ValueError(_DAMAGED)
        return None

    def _byte(self) -> int:
        self._left -= 1
        if self._left < 0:
            raise ValueError("The file has too many columns and pages: send fewer rows per request.")
        if self.at < 0:
            raise ValueError(_DAMAGED)
        self.at += 1
        return self._data[self.at - 1]

    def _unsigned(self) -> int:
        found = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            found |= (byte & 127) << shift
            if byte < 128:
                return found
        raise ValueError(_DAMAGED)

    def _integer(self) -> int:
        found = self._unsigned()
        return (found >> 1) ^ -(found & 1)
