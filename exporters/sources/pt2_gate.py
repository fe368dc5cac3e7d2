"""Check a .pt2 archive before torch reads it.

``torch.export.load`` is not safe for untrusted files. In torch 2.13 it

- unpickles: example inputs (with a fall back to ``weights_only=False``), weights and constants marked
  ``use_pickle``, custom and opaque objects, and the weights of older archives;
- evaluates: symbolic sizes go through ``sympy.sympify``, that is ``eval``; ``guards_code`` goes through
  ``exec``;
- resolves operators by walking attributes from ``torch``: only a later check stops ``torch.os.system``;
- generates Python source from the names in the graph, and executes it;
- imports modules that a tree specification names, and loads native code (AOTInductor).

Each part is therefore checked against an allow-list. The archive is read with torch's own reader, because two
zip readers can disagree on the content of a crafted file.
"""

import ast
import io
import json
import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from ..errors import InvalidSource, UnsafeCheckpoint, as_limit, reason
from . import expressions
from .advice import SAVE_AS_PROGRAM
from .torch_operators import is_allowed

_MEMBERS = re.compile(
    r"archive_format|archive_version|byteorder|\.data/(version|serialization_id)"
    r"|models/model\.json|extra/.*"
    r"|data/weights/(weight_\d+|model_weights_config\.json)"
    r"|data/constants/(tensor_\d+|model_constants_config\.json)"
    r"|data/sample_inputs/model\.pt"
)
_OPERATOR = re.compile(r"torch\.ops\.(aten|prims|torchvision|quantized_decomposed)\.(\w+)(\.\w+)?")
_STRIDED = "as_strided"  # Longformer uses it; torch checks that it stays within the tensor's memory
_CALL = re.compile(
    r"torch\.ops\.higher_order\.(cond|while_loop|scan|associative_scan|map_impl"
    r"|wrap_with_set_grad_enabled|wrap_with_autocast)"
    r"|torch\.sym_(float|int|ite|max|min|not)|torch\._sym_sqrt|math\.(ceil|floor|trunc)"
    r"|_operator\.(add|and_|eq|floordiv|ge|getitem|gt|le|lshift|lt|mod|mul|ne|neg|or_|pos|pow|rshift|sub|truediv)"
)
SAMPLES = "data/sample_inputs/model.pt"
_PAYLOAD = re.compile(r"weight_\d+|tensor_\d+")
_NAME = re.compile(r"[A-Za-z_][\w.]*|")
_PATH = re.compile(r"[\w.@]*")  # the path of a module or a parameter: "layers.0.weight"
_SYMBOL = re.compile(r"[suz]f?\d+|zuf\d+")
_TREE_TYPES = {None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"}
_FUNCTION = re.compile(
    r"Symbol|Integer|Float|Rational|Add|Mul|Pow|Mod|Max|Min|Abs|Eq|Ne|Lt|Le|Gt|Ge|Equality|Unequality|And"
    r"|Or|Not|Piecewise|ExprCondPair|StrictGreaterThan|StrictLessThan|GreaterThan|LessThan|floor|ceiling"
    r"|FloorDiv|ModularIndexing|Where|PythonMod|CleanDiv|CeilToInt|FloorToInt|CeilDiv|LShift|RShift"
    r"|PowByNatural|FloatPow|FloatTrueDiv|IntTrueDiv|IsNonOverlappingAndDenseIndicator|TruncToFloat"
    r"|TruncToInt|RoundToInt|RoundDecimal|ToFloat|Identity|true|false|int_oo|oo|BooleanTrue|BooleanFalse"
)
_GUARD_ATTRIBUTES = {"size", "floor", "ceil", "trunc"}
_SYNTAX = (
    *(ast.Expression, ast.Name, ast.Load, ast.Constant, ast.keyword, ast.Call, ast.IfExp),
    *(ast.UnaryOp, ast.Not, ast.USub, ast.UAdd, ast.BoolOp, ast.And, ast.Or),
    *(ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow),
    *(ast.Compare, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE),
)


def check(path: Path) -> None:
    """Refuse every part that would run code, or that no converter can use.

    Raises:
        UnsafeCheckpoint: a part that would run code, named in ``details``.
        InvalidSource: damaged, or saved for a GPU.
    """
    import pickle

    import torch
    from torch.export.pt2_archive._package import PT2ArchiveReader

    try:
        with PT2ArchiveReader(str(path)) as reader:
            check_parts(reader.get_file_names(), reader.read_bytes)
            samples = reader.read_bytes(SAMPLES)
        if samples:
            torch.load(io.BytesIO(samples), weights_only=True)
    except pickle.UnpicklingError as exc:
        raise _refusal("example inputs other than tensors") from exc
    except (json.JSONDecodeError, UnicodeDecodeError, OSError) as exc:
        raise as_limit(exc) or InvalidSource("The .pt2 file is damaged. Upload it again.") from exc
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise as_limit(exc) or InvalidSource(
            f"The .pt2 file does not have the layout that torch.export.save of torch 2.13 writes "
            f"({reason(exc)}). {SAVE_AS_PROGRAM}"
        ) from exc


def check_parts(names: Collection[str], read: Callable[[str], bytes]) -> None:
    """Check all parts except the sample inputs (a pickle), with the standard library only.

    Raises:
        UnsafeCheckpoint, InvalidSource: as ``check``.
        ValueError, KeyError, TypeError, AttributeError, RecursionError: it is no program of torch.export.
    """
    _require(len({name.lower() for name in names}) == len(names), "two parts with the same name")
    for name in names:
        _require(_MEMBERS.fullmatch(name), f"the part {name}")
    for payload in (json.loads(read(name)) for name in names if name.endswith("_config.json")):
        for entry in payload["config"].values():
            _require(not entry["use_pickle"], "pickled weights or constants")
            _require(_PAYLOAD.fullmatch(entry["path_name"]), "weights or constants in an unusual place")
        _check_values(payload)
    _check_values(json.loads(read("models/model.json")))


def _check_values(document: Any) -> None:
    for key, value in _walk("", document):
        rule = _RULES.get(key)
        if rule is not None and value is not None:
            rule(value)


def _walk(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield every (key, value) of a JSON document; the elements of a list have the list's key."""
    yield key, value
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _walk(name, part)
    elif isinstance(value, list):
        for part in value:
            yield from _walk(key, part)


def _check_operator(value: Any) -> None:
    text = str(value)
    found = _OPERATOR.fullmatch(text)
    if found is None:
        known = _CALL.fullmatch(text) is not None
    else:
        namespace, name, _ = found.groups()
        known = namespace == "quantized_decomposed" or is_allowed(namespace, name) or name == _STRIDED
    _require(known, f"the operator {text[:80]}")


def _check_name(value: Any) -> None:
    if isinstance(value, str):
        _require(_NAME.fullmatch(value), f"the name {value[:80]!r}")


def _check_path(value: Any) -> None:
    if isinstance(value, str):
        _require(_PATH.fullmatch(value), f"the name {value[:80]!r}")


def _check_expression(value: Any) -> None:
    _check_syntax(value)


def _check_guard(value: Any) -> None:
    if isinstance(value, str):
        _check_syntax(value, names={"L", "math", "max", "min"}, attributes=_GUARD_ATTRIBUTES)


def _check_syntax(text: Any, names: Collection[str] = (), attributes: Collection[str] = ()) -> None:
    what = f"the expression {str(text)[:80]!r}"
    _require(isinstance(text, str) and len(text) < 4096, what)
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise _refusal(what) from None
    _require(expressions.is_short(tree), what)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            _require(node.id in names or _FUNCTION.fullmatch(node.id) or _SYMBOL.fullmatch(node.id), what)
        elif isinstance(node, ast.Constant):
            _require(expressions.is_plain(node.value), what)
        elif isinstance(node, ast.Attribute):
            _require(node.attr in attributes, what)
        elif isinstance(node, ast.Subscript):
            _require(bool(attributes), what)
        else:
            _require(isinstance(node, _SYNTAX), what)


def _check_tree(value: Any) -> None:
    if not isinstance(value, str) or value == "":
        return
    for key, part in _walk("", json.loads(value)):
        if key == "type":
            _require(part in _TREE_TYPES, f"inputs or outputs of the type {str(part)[:80]}")
        elif key == "context" and part is not None:
            keys = json.loads(part)
            plain = keys is None or (isinstance(keys, list) and all(map(_is_key, keys)))
            _require(plain, "inputs or outputs with unusual keys")


def _is_key(key: Any) -> bool:
    """Return whether the key is a plain name or a whole number."""
    return type(key) is int or (isinstance(key, str) and _NAME.fullmatch(key) is not None)


def _check_device(value: Any) -> None:
    if isinstance(value, dict) and value.get("type") not in ("cpu", None):
        raise InvalidSource(
            f"The program was exported on {str(value['type'])[:20]}. Move the model to the CPU with "
            "model.cpu(), export it again and upload that."
        )


def _check_empty(value: Any) -> None:
    _require(not value, "objects of custom classes")


_RULES: dict[str, Callable[[Any], None]] = {
    "target": _check_operator,
    "as_operator": _check_operator,
    "expr_str": _check_expression,
    "guards_code": _check_guard,
    "name": _check_name,
    "as_name": _check_name,
    "forward_arg_names": _check_name,
    "fqn": _check_path,
    "parameter_name": _check_path,
    "buffer_name": _check_path,
    "tensor_constant_name": _check_path,
    "in_spec": _check_tree,
    "out_spec": _check_tree,
    "device": _check_device,
    "custom_obj_values": _check_empty,
    "treespec_namedtuple_fields": _check_empty,
    "as_custom_obj": _check_empty,
    "as_opaque_obj": _check_empty,
}


def _require(allowed: Any, what: str) -> None:
    if not allowed:
        raise _refusal(what)


def _refusal(what: str) -> UnsafeCheckpoint:
    return UnsafeCheckpoint(
        f"The .pt2 file contains {what}, which is refused: loading it could run code. Export the model "
        "with tensors as inputs and outputs, built-in operators only, and torch.export.save.",
        part=what,
    )
