"""Rebuild the arrays, scalars, dtypes and random states in an estimator's pickle.

numpy's own functions are not safe for untrusted files: ``dtype.__setstate__`` accepts a structured dtype that
hides object pointers in plain bytes, ``ndarray.__setstate__`` frees memory that may still be in use, and the
state of a random generator is an unchecked index. If a file names numpy's functions, the functions of this
module are called instead.
"""

import math
import re
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .estimator_globals import NUMERIC, Name

_DTYPE = re.compile(r"[?]|[biufc]\d{1,2}|[SUV]\d{1,9}|O8?")
_ORDER = {"<": "<", ">": ">", "|": "|", "=": "="}


class Rejected(Exception):
    """A value that could do more than hold data; the message describes it."""


@dataclass(frozen=True)
class Call:
    """Represents a function that the file may call, on the unpickler's stack. It has no other use."""

    name: str
    function: Callable[..., Any]


class Ignored:
    """Represents an object whose state is not restored; ``rebuild`` replaces it by a new one."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def ignore(self, state: Any) -> None:
        """Discard the state."""


class CheckOfArray(Ignored):
    """Represents ``partial(check_array, ...)``, which returns its input unchanged."""

    def ignore(self, state: Any) -> None:
        """Raises Rejected for arguments that could change the numbers."""
        fits = isinstance(state, tuple) and len(state) == 4 and state[1] == () and type(state[2]) is dict
        _require(fits and is_check_of_numbers(state[2]), "a function with arguments")


class PandasArray(Ignored):
    """Represents an array of texts of pandas, whose state has them as an array of numpy."""

    values: Any = None

    def ignore(self, state: Any) -> None:
        """Keep the texts alone. Raises Rejected for a state of another form."""
        arrays = [one for one in state if type(one) is np.ndarray] if type(state) is tuple else []
        _require(len(arrays) == 1, "an array of pandas of an unusual form")
        self.values = arrays[0]


class JoblibArray:
    """joblib's placeholder for an array: its numbers follow the pickle that names it."""

    subclass: Any = None
    shape: Any = None
    order: Any = None
    dtype: Any = None
    numpy_array_alignment_bytes: Any = None


def _require(condition: Any, what: str) -> None:
    if not condition:
        raise Rejected(what)


def _dtype(text: Any = None, align: Any = False, copy: Any = True) -> Any:
    """Return a new dtype object: the state that follows must not change one that numpy shares."""
    _require(isinstance(text, str) and _DTYPE.fullmatch(text), f"the dtype {str(text)[:40]!r}")
    return np.dtype(text, False, True)


def build_dtype(dtype: Any, state: Any) -> None:
    """Restore byte order and fields, but no flags, which would declare where pointers are.

    Raises:
        Rejected: a subarray, metadata, or a field that holds objects.
    """
    _require(isinstance(state, tuple) and len(state) in (8, 9), "a dtype of an unusual form")
    _, order, subarray, names, fields = state[:5]
    _require(subarray is None and (len(state) == 8 or not state[8]), "a dtype with a subarray or metadata")
    _require(order in _ORDER, "a dtype of an unusual byte order")
    if dtype.kind == "O":
        return
    if names is None:
        trusted = dtype.newbyteorder(order)
    else:
        _require(dtype.kind == "V" and isinstance(names, tuple) and isinstance(fields, dict), "a dtype")
        entries = [fields[name] for name in names]
        for entry in entries:
            _require(isinstance(entry[0], np.dtype) and entry[0].kind in "biufc", "a field of objects")
        trusted = np.dtype(
            {
                "names": list(names),
                "formats": [entry[0] for entry in entries],
                "offsets": [entry[1] for entry in entries],
                "itemsize": dtype.itemsize,
            }
        )
    dtype.__setstate__(trusted.__reduce__()[2])


def _empty_array(subtype: Any = None, shape: Any = None, kind: Any = None) -> Any:
    _require(subtype is np.ndarray, "an array of another class")
    return np.empty((0,), np.int8)


def build_array(array: Any, state: Any) -> None:
    """Fill an empty array from its pickled state.

    Raises Rejected if the array is filled already, or the length of the data does not fit the shape.
    """
    _require(array.shape == (0,) and array.dtype == np.int8, "an array that is filled twice")
    _require(isinstance(state, tuple) and len(state) == 5, "an array of an unusual form")
    _, shape, dtype, fortran, data = state
    count = _count(shape)
    _require(isinstance(dtype, np.dtype), "an array without a dtype")
    if dtype.kind == "O":
        _require(type(data) is list and len(data) == count, "an array of another length than its shape")
    else:
        _require_plain(dtype)
        _require(
            isinstance(data, (bytes, bytearray)) and len(data) == count * dtype.itemsize,
            "an array of another length than its shape",
        )
    array.__setstate__((1, shape, dtype, bool(fortran), data))


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any = "C", axes: Any = None) -> Any:
    _require(isinstance(data, (bytes, bytearray)) and axes is None, "an array of an unusual form")
    return plain_array(bytes(data), dtype, shape, order)


def plain_array(data: bytes, dtype: Any, shape: Any, order: Any) -> Any:
    """Return ``dtype[shape]`` of raw bytes, writable and not shared.

    Raises:
        Rejected: objects, or another length than the shape.
    """
    _require(isinstance(dtype, np.dtype) and order in ("C", "F", "A", "K"), "an array of an unusual form")
    _require_plain(dtype)
    _require(len(data) == _count(shape) * dtype.itemsize, "an array of another length than its shape")
    flat = np.frombuffer(bytearray(data), dtype)
    return flat.reshape(shape, order="F" if order == "F" else "C")


def size_bytes(dtype: Any, shape: Any) -> int:
    """Return the size of an array. Raises Rejected for an invalid dtype or shape."""
    _require(isinstance(dtype, np.dtype), "an array without a dtype")
    return _count(shape) * int(dtype.itemsize)


def _scalar(dtype: Any, data: Any) -> Any:
    _require(isinstance(dtype, np.dtype) and isinstance(data, bytes), "a number of an unusual form")
    return plain_array(data, dtype, (1,), "C")[0]


def _count(shape: Any) -> int:
    fits = isinstance(shape, tuple) and len(shape) <= 32 and all(type(n) is int and n >= 0 for n in shape)
    _require(fits, "an array of an impossible shape")
    return math.prod(shape)


def _require_plain(dtype: Any) -> None:
    _require(dtype.kind in "biufcSUV" and not dtype.hasobject, "an array of objects in plain bytes")


def _encode(text: Any, encoding: Any) -> bytes:
    """Return bytes in the form that protocols before 3 write."""
    _require(isinstance(text, str) and encoding == "latin1", "a codec")
    return bytes(text, "latin1")


def _bytes(data: Any = b"", encoding: Any = "latin1") -> bytes:
    return _encode(data, encoding) if isinstance(data, str) else bytes(_ints(data))


def _ints(data: Any) -> Any:
    _require(isinstance(data, (bytes, bytearray)) or data == () or data == [], "bytes of an unusual form")
    return data


def _bytearray(data: Any = b"", encoding: Any = "latin1") -> bytearray:
    return bytearray(_bytes(data, encoding))


def _collection(kind: Callable[..., Any]) -> Callable[..., Any]:
    def build(items: Any = ()) -> Any:
        _require(type(items) in (list, tuple), "a collection of an unusual form")
        return kind(items)

    return build


def _complex(real: Any, imag: Any) -> complex:
    _require(all(isinstance(part, (int, float)) for part in (real, imag)), "a complex number")
    return complex(real, imag)


def _slice(*bounds: Any) -> slice:
    _require(len(bounds) == 3 and all(type(n) in (int, type(None)) for n in bounds), "a slice")
    return slice(*bounds)


def _defaultdict(factory: Any = None) -> Any:
    known = {OrderedDict: OrderedDict, list: list, dict: dict, None: None}
    wanted = (
        OrderedDict if isinstance(factory, Call) and factory.name == "collections.OrderedDict" else factory
    )
    _require(wanted is None or wanted in (OrderedDict, list, dict), "a dictionary with a default of its own")
    return defaultdict(known[wanted])


def _ignored(kind: str) -> Callable[..., Ignored]:
    def build(*arguments: Any) -> Ignored:
        return Ignored(kind)

    return build


def _pandas_array(*arguments: Any) -> PandasArray:
    return PandasArray("array of pandas")


def _pandas_index(kind: Any, state: Any) -> list[Any]:
    """Return the names or positions of columns as a list, which selects the same columns."""
    _require(type(state) is dict, "an index of pandas of an unusual form")
    data = state.get("data")
    values = data.values if isinstance(data, PandasArray) else data
    _require(type(values) is np.ndarray and values.ndim == 1, "an index of pandas of an unusual form")
    columns: list[Any] = values.tolist()
    plain = any(all(type(one) is kind for one in columns) for kind in (str, int))
    _require(plain, "an index of pandas of other than names")
    return columns


def _numeric(module: str, name: str) -> Callable[..., Any]:
    def build(*arguments: Any) -> Any:
        from importlib import import_module

        _require(
            all(isinstance(number, (int, float)) for number in arguments), f"{name} of other than numbers"
        )
        return getattr(import_module(module), name)(*arguments)

    return build


def _tree(features: Any, classes: Any, outputs: Any) -> Any:
    """Create a tree. sklearn reads ``outputs`` numbers of classes without checking their count."""
    from sklearn.tree._tree import Tree

    fits = (
        all(isinstance(number, (int, np.integer)) and 0 < number < 1 << 31 for number in (features, outputs))
        and isinstance(classes, np.ndarray)
        and classes.dtype == np.intp
        and classes.shape == (outputs,)
        and bool((classes > 0).all())
        and int(classes.max()) < 1 << 31
    )
    _require(fits, "a decision tree of impossible sizes")
    return Tree(int(features), classes, int(outputs))


def _multinomial_loss(*arguments: Any) -> Any:
    """Create a loss. It has no state, although Cython writes a checksum of its fields."""
    from sklearn._loss._loss import CyHalfMultinomialLoss

    return CyHalfMultinomialLoss()


def _random(names: Iterable[str]) -> dict[Name, Callable[..., Any]]:
    return {("numpy.random._pickle", name): _ignored("random") for name in names}


def _partial(function: Any) -> Ignored:
    """Represent the check of numeric columns in histogram gradient boosting, which returns them unchanged."""
    _require(function is Ignored, "a function with arguments")
    return CheckOfArray("check of an array")


def is_check_of_numbers(keywords: dict[str, Any]) -> bool:
    """Return whether ``check_array`` with these arguments returns float64 unchanged."""
    return set(keywords) <= {"dtype", "ensure_all_finite"} and keywords.get("dtype") == [np.float64]


_CALLS: dict[Name, Callable[..., Any]] = {
    ("numpy", "dtype"): _dtype,
    ("numpy._core.multiarray", "_reconstruct"): _empty_array,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
    ("_codecs", "encode"): _encode,
    ("builtins", "bytes"): _bytes,
    ("builtins", "bytearray"): _bytearray,
    ("builtins", "set"): _collection(set),
    ("builtins", "frozenset"): _collection(frozenset),
    ("builtins", "complex"): _complex,
    ("builtins", "slice"): _slice,
    ("collections", "OrderedDict"): _collection(OrderedDict),
    ("collections", "defaultdict"): _defaultdict,
    ("functools", "partial"): _partial,
    ("sklearn.tree._tree", "Tree"): _tree,
    ("sklearn._loss._loss", "__pyx_unpickle_CyHalfMultinomialLoss"): _multinomial_loss,
    # Random generators are used for fitting only, search trees are rebuilt from their points, and a search's
    # table of results is not read.
    **_random(("__randomstate_ctor", "__bit_generator_ctor", "__generator_ctor")),
    ("numpy.random.bit_generator", "__pyx_unpickle_SeedSequence"): _ignored("random"),
    ("numpy.ma.core", "_mareconstruct"): _ignored("masked array"),
    ("sklearn.neighbors._kd_tree", "newObj"): _ignored("search tree"),
    ("sklearn.neighbors._ball_tree", "newObj"): _ignored("search tree"),
    ("sklearn.metrics._dist_metrics", "newObj"): _ignored("metric"),
    # The columns of a ColumnTransformer, such as ``frame.select_dtypes("number").columns``.
    ("pandas.core.indexes.base", "_new_Index"): _pandas_index,
    ("pandas._libs.arrays", "__pyx_unpickle_NDArrayBacked"): _pandas_array,
    ("pandas", "StringDtype"): _ignored("dtype of pandas"),
    **{(module, name): _numeric(module, name) for module, name in NUMERIC},
}
CALLS = {name: Call(".".join(name), function) for name, function in _CALLS.items()}

# Names that occur only as arguments of an ignored constructor.
INERT: frozenset[Name] = frozenset(
    [
        ("sklearn.utils.validation", "check_array"),
        ("pandas", "Index"),
        ("pandas.core.indexes.base", "Index"),
        ("pandas.arrays", "StringArray"),
        ("numpy.ma", "MaskedArray"),
        ("numpy.ma.core", "MaskedArray"),
        ("numpy.random.bit_generator", "SeedSequence"),
        *(("numpy.random._" + name.lower(), name) for name in ("MT19937", "PCG64", "Philox", "SFC64")),
        ("numpy.random._pcg64", "PCG64DXSM"),
        *(("sklearn.neighbors._kd_tree", name) for name in ("KDTree", "KDTree64", "KDTree32")),
        *(("sklearn.neighbors._ball_tree", name) for name in ("BallTree", "BallTree64", "BallTree32")),
        *(
            ("sklearn.metrics._dist_metrics", f"{name}Distance{bits}")
            for name in ("Euclidean", "Manhattan", "Chebyshev", "Minkowski", "SEuclidean", "Hamming")
            for bits in ("", "32", "64")
        ),
    ]
)
