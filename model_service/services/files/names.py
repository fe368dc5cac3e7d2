"""What files are called: paths inside a version, names of downloads, formats."""

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
# What a download of that format is called where its sender gave it no name.
EXTENSIONS = {name: suffix for suffix, name in reversed(FORMATS.items())} | {
    BINARY: ".bin",
    "pickle": ".pkl",
    "torchscript": ".ts",
}
# A file system's limit is 255 bytes a name; the rest is left for the suffix of a temporary file.
MAX_NAME_BYTES = 200
# Characters that change the direction of the text around them, so that a name can be shown as another one.
_BIDI_CONTROLS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# Control characters, halves of surrogate pairs, line and paragraph separators.
_UNPRINTABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})
_NOT_ON_WINDOWS = frozenset('<>:"|?*')
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,63}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,63}")
# What a client sends when it was told nothing: no statement about the file.
_MEANINGLESS = frozenset({"application/x-www-form-urlencoded", "multipart/form-data"})


def check_new_path(path: str) -> str:
    """The path of a file that is about to be stored; ``check_path`` also reads the paths of older files.

    Raises:
        InvalidField: as ``check_path``; a line separator, a character that reverses the text around it, or
            U+FFFD, by which an HTTP server replaces what is not UTF-8.
    """
    normal = check_path(path)
    if "\ufffd" in normal:
        raise InvalidField.of("path", "UTF-8, and not U+FFFD", wrong=f"{path[:100]!r} is no path of a file")
    if any(unicodedata.category(char) in _UNPRINTABLE or char in _BIDI_CONTROLS for char in normal):
        problem = "no line separators and no characters that change the direction of the text"
        raise InvalidField.of("path", problem, wrong=f"{path[:100]!r} is no path of a file")
    return normal


def check_path(path: str) -> str:
    """A file's path in its version, in Unicode's composed form (NFC), so that a name has one spelling.

    It never meets a disk here, but it will meet one where it is downloaded to. Case is kept and matters.

    Raises:
        InvalidField: empty, absolute, too long, a segment that is empty or ``.`` or ``..``, a backslash, a
            control character or half of a surrogate pair.
    """
    normal = unicodedata.normalize("NFC", path)
    problem = None
    if not 1 <= len(normal) <= MAX_PATH_CHARS:
        problem = f"1 to {MAX_PATH_CHARS} characters"
    elif any(unicodedata.category(char) in {"Cc", "Cs"} or char == "\\" for char in normal):
        problem = "no control characters and no backslash"
    elif any(segment in {"", ".", ".."} for segment in normal.split("/")):
        problem = "relative, and none of its segments empty, '.' or '..'"
    if problem:
        raise InvalidField.of("path", problem, wrong=f"{path[:100]!r} is no path of a file")
    return normal


def safe_filename(name: str | None) -> str:
    """The last component of a client's path, in NFC, as a name that every file system takes.

    Letters of all scripts stay. Removed are control characters, characters that change the direction of the
    text, what Windows does not allow in names, and dots and spaces at both ends. A name of more than
    MAX_NAME_BYTES of UTF-8 is shortened in front of its suffix. Empty where nothing is left.
    """
    last = (name or "").replace("\\", "/").rstrip("/").rpartition("/")[2]
    dropped = _BIDI_CONTROLS | _NOT_ON_WINDOWS
    kept = "".join(
        char for char in last if unicodedata.category(char) not in _UNPRINTABLE and char not in dropped
    )
    safe = unicodedata.normalize("NFC", kept).strip(". ")
    suffix = PurePosixPath(safe).suffix
    if len(suffix.encode()) > MAX_NAME_BYTES // 4:  # a sentence with a dot in it
        suffix = ""
    stem = safe.removesuffix(suffix).encode()[: MAX_NAME_BYTES - len(suffix.encode())]
    return stem.decode(errors="ignore") + suffix


def format_of(name: str) -> str:
    """The format that a file's extension tells; ``binary`` where it tells none."""
    return FORMATS.get(PurePosixPath(name).suffix.lower(), BINARY)


def check_format(file_format: str) -> str:
    """Raises: InvalidField: none that we know."""
    if file_format not in EXTENSIONS:
        allowed = ", ".join(sorted(EXTENSIONS))
        raise InvalidField.of(
            "format", f"one of {allowed}", wrong=f"{file_format[:40]!r} is no format that is known here"
        )
    return file_format


def download_name(filename: str | None, model_name: str, file_format: str | None) -> str:
    """As its sender called it; else the model's name, with the extension of the format."""
    return safe_filename(filename) or f"{safe_filename(model_name)}{EXTENSIONS[file_format or BINARY]}"


def media_type(sent: str | None) -> str:
    """The media type a client sent, if it says anything; a browser is never told more than that."""
    kind = (sent or "").partition(";")[0].strip().lower()
    return kind if _MEDIA_TYPE.fullmatch(kind) and kind not in _MEANINGLESS else OCTET_STREAM


def content_disposition(filename: str) -> str:
    """The header's value for any name, after RFC 6266 §4.3: in ASCII, and as it is where that differs."""
    plain = re.sub(r'[^\x20-\x7e]|["\\%]', "_", filename)
    if plain == filename:
        return f'attachment; filename="{plain}"'
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"
