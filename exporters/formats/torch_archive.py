"""Rewrite an archive of torch so that equal models are equal bytes, without names of anyone's files.

torch records where each operation came from: stack traces with the paths of the author's machine and of this
one, and traced example inputs. None of that affects the computation.
"""

import json
import pickletools
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

# The writer creates these itself: the format's version, and a digest of the rest.
_WRITTEN = {"version", ".data/version", "byteorder", ".data/serialization_id"}
# Names of torch.classes are excluded: they are native code, whose names belong to torch.
_QUALIFIED = re.compile(rb"__torch__(?!\.torch\.classes\b)(?:\.\w+)+")
_KEPT = ("nn_module_stack", "torch_fn")
_PICKLES = {"data.pkl", "constants.pkl", "bytecode.pkl"}


def rewrite(path: Path, edit: Callable[[str, bytes], tuple[str, bytes] | None]) -> None:
    """Pass every record through ``edit``, which returns its new name and content, or None to drop it.

    One record is in memory at a time.
    """
    import torch

    new = path.with_name("model.new")
    reader = torch._C.PyTorchFileReader(str(path))
    names = reader.get_all_records()
    writer = torch._C.PyTorchFileWriter(str(new))
    version = next(name for name in ("version", ".data/version") if name in names)
    writer.set_min_version(int(reader.get_record(version)))
    for name in names:
        if name in _WRITTEN:
            continue
        record = edit(name, reader.get_record(name))
        if record is not None:
            writer.write_record(record[0], record[1], len(record[1]))
    writer.write_end_of_file()
    del reader
    new.replace(path)


def strip_script(path: Path) -> None:
    """Rewrite TorchScript: no source locations, no traced inputs, neutral names for its classes' modules.

    Module names are the author's files (``code/__torch__/team/models.py``). A process also numbers the
    classes that it compiles (``torch.nn.modules.module.___torch_mangle_7``), so a model would get another
    name the next time.
    """
    import torch

    records = torch._C.PyTorchFileReader(str(path)).get_all_records()
    modules = [name[len("code/") : -len(".py")] for name in records if re.fullmatch(r"code/.*\.py", name)]
    names = {
        module.replace("/", ".").encode(): b"__torch__.___torch_mangle_%d" % number
        for number, module in enumerate(modules)
    }

    def renamed(text: bytes) -> bytes:
        if text.startswith(b"c__torch__\n"):  # in a pickle, the class of a script or notebook has no module
            return text.replace(b"__torch__", names.get(b"__torch__", b"__torch__"), 1)
        return _QUALIFIED.sub(lambda found: _replace_prefix(found[0], names), text)

    def edit(name: str, content: bytes) -> tuple[str, bytes] | None:
        if name.endswith(".debug_pkl") or name.startswith("traced_inputs"):
            return None
        if name.startswith("code/") and names:
            module = name[len("code/") : -len(".py")].replace("/", ".").encode()
            return f"code/{names[module].decode().replace('.', '/')}.py", renamed(content)
        if name in _PICKLES and names:
            return name, _edit_texts(content, renamed)
        return name, content

    rewrite(path, edit)


def strip_program(path: Path, samples: bytes) -> None:
    """Rewrite an exported program: no stack traces; its inputs become ``samples``, written by torch.save."""

    def edit(name: str, content: bytes) -> tuple[str, bytes] | None:
        if name == "models/model.json":
            document = json.loads(content)
            _drop_traces(document)
            return name, json.dumps(document, separators=(",", ":")).encode()
        return name, samples if name == "data/sample_inputs/model.pt" else content

    rewrite(path, edit)


def _drop_traces(value: Any) -> None:
    """Remove stack traces. A node keeps its layer, by the names of modules and classes."""
    if isinstance(value, list):
        for part in value:
            _drop_traces(part)
    elif isinstance(value, dict):
        metadata = value.get("metadata")
        if "target" in value and isinstance(metadata, dict):
            value["metadata"] = {key: metadata[key] for key in _KEPT if key in metadata}
        for part in value.values():
            _drop_traces(part)


def _replace_prefix(name: bytes, names: Mapping[bytes, bytes]) -> bytes:
    """Replace ``module`` in ``module.Class.method``, or the longest prefix that has another name."""
    head, tail = name, b""
    while head not in names and b"." in head:
        head, _, last = head.rpartition(b".")
        tail = b"." + last + tail
    return names.get(head, head) + tail


def _edit_texts(pickled: bytes, edit: Callable[[bytes], bytes]) -> bytes:
    """Edit the class names (lines of text, ``GLOBAL``) and strings of a pickle; the rest is unchanged."""
    parts = []
    starts = [(opcode.name, position or 0) for opcode, _, position in pickletools.genops(pickled)]
    ends = [position for _, position in starts[1:]] + [len(pickled)]
    for (opcode, start), end in zip(starts, ends, strict=True):
        part = pickled[start:end]
        if opcode == "GLOBAL":
            part = edit(part)
        elif opcode == "BINUNICODE":  # its length in 4 bytes, then the text
            text = edit(part[5:])
            part = part[:1] + len(text).to_bytes(4, "little") + text
        parts.append(part)
    return b"".join(parts)
