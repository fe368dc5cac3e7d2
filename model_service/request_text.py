"""Validation of text in requests: Unicode without NUL and without lone surrogates.

MongoDB stores no other text as a key, and invalid UTF-8 would silently become another name.
"""

from collections.abc import Iterable
from urllib.parse import unquote_to_bytes

from model_service.errors import InvalidField


def text_problem(text: str) -> str | None:
    """Return the problem with decoded text; None if it is valid."""
    if "\0" in text:
        return "has a NUL character"
    if text.isascii():
        return None
    try:
        text.encode()
    except UnicodeEncodeError:
        return "has half of a surrogate pair"
    return None


def require_text(field: str, text: str) -> None:
    """Validate decoded text. Raises: InvalidField: it has NUL or a lone surrogate."""
    if (problem := text_problem(text)) is not None:
        raise _invalid(field, problem)


def check_query(query: str) -> None:
    """Validate the query string of a URL as it was sent.

    Raises:
        InvalidField: a name or value is not UTF-8 or has a NUL character; names the parameter.
    """
    if "%" not in query and "\0" not in query and query.isascii():
        return
    for part in query.split("&"):
        sent_name, _, value = part.partition("=")
        name = unquote_to_bytes(sent_name).decode("utf-8", "replace")
        for sent in (sent_name, value):
            if (problem := _problem_of_bytes(unquote_to_bytes(sent))) is not None:
                raise _invalid(name, problem)


def check_path(path: bytes) -> None:
    """Validate the percent-decoded path of a URL. Raises: InvalidField: as ``check_query``."""
    if (problem := _problem_of_bytes(path)) is not None:
        raise _invalid("path", problem, "the URL's path")


def check_headers(headers: Iterable[tuple[str, str]]) -> None:
    """Validate headers. Raises: InvalidField: a value has a NUL character; names the header."""
    for name, value in headers:
        if "\0" in value:
            raise _invalid(name, "has a NUL character")


def _problem_of_bytes(sent: bytes) -> str | None:
    if b"\0" in sent:
        return "has a NUL character"
    try:
        sent.decode()
    except UnicodeDecodeError:
        return "is not UTF-8"
    return None


def _invalid(field: str, problem: str, where: str | None = None) -> InvalidField:
    shown = ascii(field[:100])[1:-1]
    return InvalidField.of(shown, f"must be UTF-8 text without NUL; it {problem}", wrong=where or shown)
