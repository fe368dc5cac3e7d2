"""Names of files: paths inside a version, download names, formats, media types."""

import re
import unicodedata
from pathlib import PurePosixPath
from urllib.parse import quote

from model_service.errors import InvalidField

MAX_PATH_CHARS = 1024
OCTET_STREAM = "application/octet-stream"
FORMATS = {
    ".csv": "csv",
    ".joblib": "joblib",
    ".json": "json",
    ".jsonl": "jsonl",
    ".keras": "keras",
    ".npz": "npz",
    ".onnx": "onnx",
    ".parquet": "parquet",
    ".pickle": "pickle",
    ".pkl": "pickle",
    ".pt": "pytorch",
    ".pt2": "torch_export",
    ".pth": "pytorch",
    ".safetensors": "safetensors",
    ".skops": "skops",
    ".tflite": "tflite",
    ".torchscript": "torchscript",
    ".ts": "torchscript",
    ".zip": "zip",
}
BINARY = "binary"
# Extension of a download by format, for a file that was uploaded without a name.
EXTENSIONS = {name: suffix for suffix, name in reversed(FORMATS.items())} | {
    BINARY: ".bin",
    "pickle": ".pkl",
    "torchscript": ".ts",
}
# File systems allow 255 bytes in a name; the rest is left for the suffix of a temporary file.
MAX_NAME_BYTES = 200
# Characters that change the text direction, which can make a name look like a different one.
_BIDI_CONTROLS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# Control characters, surrogates, line and paragraph separators.
_UNPRINTABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})
_NOT_ON_WINDOWS = frozenset('<>:"|?*')
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,63}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,63}")
# Media types that clients send by default, which say nothing about the file.
_MEANINGLESS = frozenset({"application/x-www-form-urlencoded", "multipart/form-data"})


def check_new_path(path: str) -> str:
    """Validate the path of a new file. ``check_path`` also accepts paths of files stored earlier.

    Raises:
        InvalidField: as ``check_path``; or a line separator, a character that changes the text direction, or
            U+FFFD, which an HTTP server puts in place of invalid UTF-8.
    """
    normal = check_path(path)
    if "\ufffd" in normal:
        raise InvalidField.of(
            "path", "UTF-8, without U+FFFD", wrong=f"{path[:100]!r} is not a path of a file"
        )
    if any(unicodedata.category(char) in _UNPRINTABLE or char in _BIDI_CONTROLS for char in normal):
        problem = "no line separators and no characters that change the direction of the text"
        raise InvalidField.of("path", problem, wrong=f"{path[:100]!r} is not a path of a file")
    return normal


def check_path(path: str) -> str:
    """Validate a file's path in its version and normalise it to NFC, so that a name has one spelling.

    The service does not use paths on its own disk, but clients do after a download. Paths are case-sensitive.

    Raises:
        InvalidField: empty, absolute, too long, a segment that is empty or ``.`` or ``..``, a backslash, a
            control character or a surrogate.
    """
    normal = unicodedata.normalize("NFC", path)
    problem = None
    if not 1 <= len(normal) <= MAX_PATH_CHARS:
        problem = f"1 to {MAX_PATH_CHARS} characters"
    elif any(unicodedata.category(char) in {"Cc", "Cs"} or char == "\\" for char in normal):
        problem = "no control characters and no backslash"
    elif any(segment in {"", ".", ".."} for segment in normal.split("/")):
        problem = "relative, and no segment is empty, '.' or '..'"
    if problem:
        raise InvalidField.of("path", problem, wrong=f"{path[:100]!r} is not a path of a file")
    return normal


def safe_filename(name: str | None) -> str:
    """Return the last component of a client's path, in NFC, as a name that is valid on every file system.

    Letters of all scripts are kept. Removed are control characters, characters that change the text
    direction, characters that Windows forbids in names, and dots and spaces at both ends. A name of more than
    MAX_NAME_BYTES of UTF-8 is shortened before its suffix. The result may be empty.
    """
    last = (name or "").replace("\\", "/").rstrip("/").rpartition("/")[2]
    dropped = _BIDI_CONTROLS | _NOT_ON_WINDOWS
    kept = "".join(
        char for char in last if unicodedata.category(char) not in _UNPRINTABLE and char not in dropped
    )
    safe = unicodedata.normalize("NFC", kept).strip(". ")
    suffix = PurePosixPath(safe).suffix
    if len(suffix.encode()) > MAX_NAME_BYTES // 4:  # not a suffix but text after a dot
        suffix = ""
    stem = safe.removesuffix(suffix).encode()[: MAX_NAME_BYTES - len(suffix.encode())]
    return stem.decode(errors="ignore") + suffix


def format_of(name: str) -> str:
    """Return the format by the file's extension; ``binary`` if the extension is unknown."""
    return FORMATS.get(PurePosixPath(name).suffix.lower(), BINARY)


def check_format(file_format: str) -> str:
    """Validate a format's name. Raises: InvalidField: the format is unknown."""
    if file_format not in EXTENSIONS:
        allowed = ", ".join(sorted(EXTENSIONS))
        raise InvalidField.of(
            "format", f"one of {allowed}", wrong=f"{file_format[:40]!r} is not a known format"
        )
    return file_format


def download_name(filename: str | None, model_name: str, file_format: str | None) -> str:
    """Return the name given at upload; without one, the model's name with the format's extension."""
    return safe_filename(filename) or f"{safe_filename(model_name)}{EXTENSIONS[file_format or BINARY]}"


def media_type(sent: str | None) -> str:
    """Return the media type that a client sent, without parameters, if it is valid and meaningful."""
    kind = (sent or "").partition(";")[0].strip().lower()
    return kind if _MEDIA_TYPE.fullmatch(kind) and kind not in _MEANINGLESS else OCTET_STREAM


def content_disposition(filename: str) -> str:
    """Return the header value for any name (RFC 6266 §4.3): in ASCII, plus UTF-8 if that differs."""
    plain = re.sub(r'[^\x20-\x7e]|["\\%]', "_", filename)
    if plain == filename:
        return f'attachment; filename="{plain}"'
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"
