"""Write any text as a literal of a language or as Markdown, so that a label or a name cannot become code.

In code only printable ASCII is kept; everything else is escaped, so the encoding of a file does not matter.
"""

from collections.abc import Callable, Mapping
from typing import Any

_PLAIN = frozenset(map(chr, range(0x20, 0x7F))) - set("\"\\?$'")
_MARKDOWN = frozenset("\\`*_[]<>|#&!~")


def cpp_string(text: str) -> str:
    """Return a C++11 ``const char*`` of the text's UTF-8; octal escapes end after three digits."""
    return '"' + "".join(_octal(character) for character in text) + '"'


def swift_string(text: str) -> str:
    """Return a Swift literal: ``\\u{..}`` with one to eight hexadecimal digits."""
    return '"' + "".join(c if c in _PLAIN else f"\\u{{{ord(c):x}}}" for c in _valid(text)) + '"'


def kotlin_string(text: str) -> str:
    """Return a Kotlin literal: ``\\uXXXX`` in UTF-16; dollar signs, which start a template, are escaped."""
    return '"' + "".join(c if c in _PLAIN else _utf16(c) for c in _valid(text)) + '"'


def markdown(text: object) -> str:
    """Return one line of Markdown, also for a table's cell, that shows the text."""
    return "".join(f"\\{c}" if c in _MARKDOWN else c for c in " ".join(_valid(str(text)).split()))


def code_span(text: object) -> str:
    """Return a code span of Markdown for a table's cell. A backtick is shown as an apostrophe."""
    return "`" + " ".join(_valid(str(text)).split()).replace("`", "'").replace("|", "\\|") + "`"


def _octal(character: str) -> str:
    if character in _PLAIN:
        return character
    return "".join(f"\\{byte:03o}" for byte in _valid(character).encode())


def _utf16(character: str) -> str:
    data = character.encode("utf-16-be")
    return "".join(f"\\u{data[at]:02x}{data[at + 1]:02x}" for at in range(0, len(data), 2))


def _valid(text: str) -> str:
    """Replace lone surrogates, which UTF-8 cannot represent, by question marks."""
    return text.encode("utf-8", "replace").decode()


FILTERS: Mapping[str, Callable[[Any], str]] = {
    "markdown": markdown,
    "code_span": code_span,
    "cpp_string": cpp_string,
    "swift_string": swift_string,
    "kotlin_string": kotlin_string,
}
