"""Read the pickle of an estimator, with or without joblib's arrays, so that no code in it can run.

A pickle is a program, and lists of forbidden names have been bypassed many times. Therefore

- a name resolves only if ``estimator_globals`` lists exactly that name: no attribute is looked up, and a
  dotted name is not listed;
- a function that the file names is never called: ``pickle_values`` replaces those of numpy and Python;
- an object is created by ``__new__`` without arguments; only instances of listed classes get attributes, and
  no attribute may hide a method;
- items are added to plain lists, sets and dictionaries only;
- extension codes, persistent ids, old-style instances and buffers outside the file are refused.

The opcodes are read by the standard library's unpickler that is written in Python.
"""

import inspect
import pickle
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from importlib import import_module
from typing import IO, Any, ClassVar

import numpy as np

from ..errors import InvalidSource, UnsafeCheckpoint, as_limit
from . import boosters
from .estimator_globals import CLASSES, VALUES, canonical, why_refused
from .objects import walk
from .pickle_values import (
    CALLS,
    INERT,
    Call,
    Ignored,
    JoblibArray,
    Rejected,
    build_array,
    build_dtype,
    plain_array,
    size_bytes,
)

_CHUNK_BYTES = 16 << 20
_DICTIONARIES = (dict, OrderedDict, defaultdict)
# The state of these classes is passed to native code, and checked like their native model files.
_OWN_SETSTATE = {("xgboost.core", "Booster"), ("lightgbm.basic", "Booster"), ("sklearn.tree._tree", "Tree")}
_ADVICE = (
    "Save it again with skops.io.dump(estimator, 'model.skops'), or in the estimator's own format. "
    "An operator who trusts every file can set ALLOW_UNSAFE_CHECKPOINTS=true."
)


def load(file: IO[bytes]) -> Any:
    """Return the object in ``file``.

    Raises:
        UnsafeCheckpoint: it names or does something that is not allowed; ``details`` has the name.
        InvalidSource: truncated or damaged.
    """
    try:
        loaded = _Gate(file).load()
        forget(loaded)
        return loaded
    except (UnsafeCheckpoint, InvalidSource):
        raise
    except Rejected as exc:
        raise refusal(str(exc)) from exc
    except Exception as exc:
        raise as_limit(exc) or InvalidSource(
            f"The pickle is not readable ({type(exc).__name__}: {str(exc)[:200]}): it was cut "
            "short, or contains something that is not supported. Upload it again, or save the "
            "estimator with skops.io.dump."
        ) from exc


def forget(value: Any) -> None:
    """Replace every ignored object below ``value`` by None."""
    for part in (value, *walk(value)):
        attributes = getattr(part, "__dict__", {})
        for holder in (attributes, *(one for one in attributes.values() if isinstance(one, dict))):
            for name in [name for name, one in holder.items() if isinstance(one, Ignored)]:
                holder[name] = None


def refusal(what: str) -> UnsafeCheckpoint:
    return UnsafeCheckpoint(
        f"The pickle contains {what[:120]}, which is refused: {why_refused(what, _ADVICE)}",
        refused=what[:120],
    )


class _Gate(pickle._Unpickler):
    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)
    stack: list[Any]
    append: Callable[[Any], None]

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)
        self._file = file

    def find_class(self, module: str, name: str) -> Any:
        known = canonical(module, name)
        if known in CALLS:
            return CALLS[known]
        if known == ("copyreg", "_reconstructor"):
            return Call("copyreg._reconstructor", self._reconstruct)
        if known == ("joblib.numpy_pickle", "NumpyArrayWrapper"):
            return JoblibArray
        if known in INERT:
            return Ignored
        if known not in CLASSES and known not in VALUES:
            raise refusal(f"{module}.{name}")
        try:
            return getattr(import_module(known[0]), known[1])
        except (ImportError, AttributeError) as exc:
            raise InvalidSource(
                f"The pickle needs {module}.{name}, which the installed versions do not have."
            ) from exc

    def get_extension(self, code: int) -> None:
        raise refusal("a copyreg extension code")

    def persistent_load(self, pid: Any) -> Any:
        raise refusal("a persistent id")

    def _instantiate(self, klass: Any, args: Any) -> None:
        raise refusal("an old-style instance")

    def _reconstruct(self, cls: Any, base: Any, state: Any = None) -> Any:
        if base is not object or state is not None:
            raise Rejected("copyreg._reconstructor of another base class")
        return self._new(cls)

    def _new(self, cls: Any) -> Any:
        if cls is JoblibArray:
            return JoblibArray()
        if not isinstance(cls, type) or (cls.__module__, cls.__name__) not in CLASSES:
            raise Rejected(f"a new {_name(cls)}")
        return object.__new__(cls) if not issubclass(cls, dict) else dict.__new__(cls)

    def load_newobj(self) -> None:
        args, cls = self.stack.pop(), self.stack.pop()
        if args != ():
            raise Rejected(f"a new {_name(cls)} with arguments")
        self.append(self._new(cls))

    def load_newobj_ex(self) -> None:
        keywords, args, cls = self.stack.pop(), self.stack.pop(), self.stack.pop()
        if args != () or keywords:
            raise Rejected(f"a new {_name(cls)} with arguments")
        self.append(self._new(cls))

    def load_reduce(self) -> None:
        args, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Call) or type(args) is not tuple:
            raise Rejected(f"a call of {_name(function)}")
        self.append(function.function(*args))

    def load_build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        kind = (type(target).__module__, type(target).__name__)
        if type(target) is np.ndarray:
            build_array(target, state)
        elif isinstance(target, np.dtype):
            build_dtype(target, state)
        elif isinstance(target, JoblibArray):
            _set_attributes(target, state)
            self.stack[-1] = self._read_array(target)
        elif isinstance(target, Ignored):
            target.ignore(state)
        elif kind in _OWN_SETSTATE:
            require_attributes(type(target), state)
            if kind == ("lightgbm.basic", "Booster"):
                _require_handle(state)
            elif kind == ("xgboost.core", "Booster") and state.get("handle") is not None:
                boosters.check_xgboost(state["handle"])
            target.__setstate__(state)
        elif kind in CLASSES:
            _set_attributes(target, state)
        elif not (isinstance(target, OrderedDict) and not state):
            raise Rejected(f"a changed {_name(type(target))}")

    def _read_array(self, array: JoblibArray) -> Any:
        if array.subclass is not np.ndarray:
            raise Rejected("an array of another class")
        wanted = size_bytes(array.dtype, array.shape)
        if array.dtype.kind == "O":  # its pickle follows this one
            return _Gate(self._file).load()
        if array.numpy_array_alignment_bytes is not None:
            padding = self._file.read(1)
            self._file.read(padding[0])
        data = bytearray()
        while len(data) < wanted:
            chunk = self._file.read(min(_CHUNK_BYTES, wanted - len(data)))
            if not chunk:
                raise EOFError("an array is cut short")
            data += chunk
        return plain_array(bytes(data), array.dtype, array.shape, array.order)


def _set_attributes(target: Any, state: Any) -> None:
    """Restore the attributes like ``object.__setstate__``, so that no code of the class runs."""
    require_attributes(type(target), state)
    if not isinstance(target, dict):  # a Bunch does not restore its attributes either
        target.__dict__.update(state)


def require_attributes(cls: type, state: Any) -> None:
    """Raises Rejected if the state is no dictionary of attributes, or an attribute hides a method."""
    _require_state(state)
    for name in state:
        hidden = inspect.getattr_static(cls, name, None)
        if name.startswith("__") or inspect.isroutine(hidden) or isinstance(hidden, (classmethod, property)):
            raise Rejected(f"an attribute {name[:60]!r} that replaces a method of {_name(cls)}")


def _require_handle(state: dict[str, Any]) -> None:
    """Check the model's text, found in the same way as LightGBM's ``__setstate__`` does."""
    text = state.get("_handle", state.get("handle"))
    if text is not None:
        boosters.check_lightgbm(text)


def _require_state(state: Any) -> None:
    if type(state) is not dict or not all(type(name) is str for name in state):
        raise Rejected("a state that is not a plain dictionary")


def _guarded(opcode: bytes, position: Callable[[Any], Any], kinds: tuple[type, ...]) -> None:
    """Allow the opcode for plain types only: otherwise the file could call another type's method."""
    original = pickle._Unpickler.dispatch[opcode[0]]

    def guard(gate: Any) -> None:
        target = position(gate)
        bunch = kinds is _DICTIONARIES and _name(type(target)) == "sklearn.utils._bunch.Bunch"
        if type(target) not in kinds and not bunch and not isinstance(target, Ignored):
            raise Rejected(f"items for {_name(type(target))}")
        original(gate)

    _Gate.dispatch[opcode[0]] = guard


def _name(value: Any) -> str:
    if isinstance(value, Call):
        return value.name
    return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__name__)}"[:100]


_guarded(pickle.APPEND, lambda gate: gate.stack[-2], (list,))
_guarded(pickle.APPENDS, lambda gate: gate.metastack[-1][-1], (list,))
_guarded(pickle.ADDITEMS, lambda gate: gate.metastack[-1][-1], (set,))
_guarded(pickle.SETITEM, lambda gate: gate.stack[-3], _DICTIONARIES)
_guarded(pickle.SETITEMS, lambda gate: gate.metastack[-1][-1], _DICTIONARIES)
_Gate.dispatch |= {
    pickle.NEWOBJ[0]: _Gate.load_newobj,
    pickle.NEWOBJ_EX[0]: _Gate.load_newobj_ex,
    pickle.REDUCE[0]: _Gate.load_reduce,
    pickle.BUILD[0]: _Gate.load_build,
}
