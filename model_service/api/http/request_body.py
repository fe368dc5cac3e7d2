"""Request bodies. JSON that cannot be stored unchanged is rejected, with the name of the field.

A missing JSON body counts as an empty object, so a body with only optional fields may be left out.
"""

import json
import math
from typing import Any

from flask import Flask, Request, request

from model_service.errors import InvalidField, InvalidJSON, UnsupportedEncoding
from model_service.request_text import check_headers, check_path, check_query, text_problem

# MongoDB allows 100 levels. Free objects in a body have a limit of their own (``schemas.common``).
MAX_BODY_DEPTH = 64
_INT64 = range(-(2**63), 2**63)
_MOST_DIGITS = len(str(2**63))
_NESTED = f"nested more than {MAX_BODY_DEPTH} deep"

Problem = tuple[str, str]


def register_text(app: Flask) -> None:
    """Reject a URL or header with a NUL character or invalid UTF-8, before anything reads it."""

    @app.before_request
    def refuse_what_is_no_text() -> None:
        check_path(request.environ["PATH_INFO"].encode("latin-1"))
        check_query(request.environ.get("QUERY_STRING", ""))
        check_headers(request.headers)


def register_encodings(app: Flask) -> None:
    """Reject compressed bodies on every route: an upload would be stored compressed."""

    @app.before_request
    def refuse_encoded() -> None:
        encoding = request.headers.get("Content-Encoding", "").strip().lower()
        if encoding not in {"", "identity"}:
            raise UnsupportedEncoding(encoding)


class JSONRequest(Request):
    """``get_json`` is strict and raises the service's own errors."""

    body_is_absent = False
    _read: Any = None

    def get_json(self, force: bool = False, silent: bool = False, cache: bool = True) -> Any:
        """Return the JSON object of the body. The arguments are Flask's and have no effect.

        Raises:
            InvalidJSON: not a JSON object, or the Content-Type is not JSON.
            InvalidField: a value cannot be stored unchanged.
        """
        if self._read is None:
            self._read = self._read_body()
        return self._read

    def _read_body(self) -> dict[str, Any]:
        data = self.get_data()
        if not data:
            self.body_is_absent = True
            return {}
        if not self.is_json:
            raise InvalidJSON("The body must be JSON, sent with 'Content-Type: application/json'.")
        return read_object(data)


def read_object(data: bytes) -> dict[str, Any]:
    """Raises: InvalidJSON, InvalidField: as ``JSONRequest.get_json``."""
    try:
        value = json.loads(
            data.decode("utf-8-sig"),
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_constant=_refuse_constant,
        )
    except RecursionError:
        raise InvalidField.of("body", _NESTED) from None
    except UnicodeDecodeError:
        raise InvalidJSON("The body is not valid JSON: it is not UTF-8.") from None
    except ValueError as exc:
        raise InvalidJSON(f"The body is not valid JSON: {exc}.") from None
    if not isinstance(value, dict):
        raise InvalidJSON("The body must be a JSON object.")
    if (problem := _find_problem(value, MAX_BODY_DEPTH)) is not None:
        path, message = problem
        raise InvalidField.of(path, message, wrong=ascii(path)[1:-1])
    return value


def _find_problem(value: Any, deepest: int, path: str = "") -> Problem | None:
    """Return the first place in the JSON that MongoDB cannot store unchanged, and the reason; or None."""
    if deepest < 0:
        return path.partition(".")[0], _NESTED
    match value:
        case dict():
            for key, inner in value.items():
                if (wrong := text_problem(key)) is not None:
                    return path or "body", f"a key {wrong}"
                if problem := _find_problem(inner, deepest - 1, f"{path}.{key}" if path else key):
                    return problem
        case list():
            for index, inner in enumerate(value):
                if problem := _find_problem(inner, deepest - 1, f"{path}.{index}"):
                    return problem
        case str() if (wrong := text_problem(value)) is not None:
            return path, f"the text {wrong}"
        case int() if value not in _INT64:
            return path, "the integer does not fit in 64 bits with a sign; send it as a string"
        case float() if math.isinf(value):
            return path, "the number does not fit in 64 bits; send it as a string"
    return None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise InvalidField.of(ascii(twice)[1:-1], "the key occurs more than once in the JSON object")
    return found


def _integer(digits: str) -> int:
    """Parse the first digits of an integer; Python rejects thousands of digits, too large anyway."""
    return int(digits[: _MOST_DIGITS + 2])


def _refuse_constant(name: str) -> Any:
    raise InvalidJSON(
        f'The body is not valid JSON: JSON has no {name}. In metrics, send the string "{name}" instead.'
    )
