"""Pickles that would run code, as the trackers of picklescan, modelscan and fickling describe them.

Each is made so that Python's own unpickler leaves a file: the proof that it would have run.
"""

import copyreg
import io
import os
import pickle
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import joblib
import lightgbm
import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.multioutput import MultiOutputRegressor
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import Binarizer
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from exporters.convert import run
from exporters.errors import InvalidSource, UnsafeCheckpoint
from exporters.request import ExportRequest, Trust
from exporters.sources import estimators, pickle_gate
from exporters.sources.compressed import open_bounded

X, Y = load_iris(return_X_y=True)
HEAD = b"\x80\x04"


class Touch:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def command(marker: Path) -> bytes:
    return text(f"touch {marker}")


def name(module: str, attribute: str) -> bytes:
    return text(module) + text(attribute) + pickle.STACK_GLOBAL


def load(data: bytes) -> Any:
    return pickle_gate.load(io.BytesIO(data))


def reduced(marker: Path) -> bytes:
    return pickle.dumps(Touch(marker))


def reduced_in_text(marker: Path) -> bytes:
    return pickle.dumps(Touch(marker), protocol=0)


def inside_an_estimator(marker: Path) -> bytes:
    estimator = LogisticRegression().fit(X, Y)
    estimator.note_ = Touch(marker)
    return pickle.dumps(estimator)


def names_through_the_memo(marker: Path) -> bytes:
    """The strings of STACK_GLOBAL come from the memo, put there out of order (picklescan#50)."""
    put = text("system") + b"q\x01" + text("posix") + b"q\x02" + b"00"
    return HEAD + put + b"h\x02h\x01" + pickle.STACK_GLOBAL + command(marker) + b"\x85R."


def dotted_name(marker: Path) -> bytes:
    """Protocol 4 walks the dots from an innocent module."""
    return HEAD + name("sklearn.base", "copy.os.system") + command(marker) + b"\x85R."


def dotted_through_an_allowed_class(marker: Path) -> bytes:
    path = "LogisticRegression.fit.__globals__"
    return HEAD + name("sklearn.linear_model._logistic", path) + b"."


def old_style_instance(marker: Path) -> bytes:
    return b"(" + command(marker) + b"iposix\nsystem\n."


def object_opcode(marker: Path) -> bytes:
    return b"(" + b"cposix\nsystem\n" + command(marker) + b"o."


def of_an_allowed_class_with_arguments(marker: Path) -> bytes:
    """A constructor that reads a file of the pickle's choice."""
    booster = name("xgboost.core", "Booster")
    return HEAD + booster + b"}" + text("model_file") + text(str(marker)) + b"s" + b"N\x85R."


def new_object_with_keywords(marker: Path) -> bytes:
    return HEAD + name("sklearn.pipeline", "Pipeline") + b")" + b"}" + text("a") + b"Ns" + b"\x92."


def partial(marker: Path) -> bytes:
    return HEAD + name("functools", "partial") + name("posix", "system") + b"\x85R."


def attribute_lookup(marker: Path) -> bytes:
    got = name("builtins", "getattr") + name("posix", "system") + text("__call__") + b"\x86R"
    return HEAD + got + command(marker) + b"\x85R."


def nested_pickle(marker: Path) -> bytes:
    inner = pickle.dumps(Touch(marker))
    return HEAD + name("_pickle", "loads") + b"B" + struct.pack("<I", len(inner)) + inner + b"\x85R."


def reconstructor_of_a_list(marker: Path) -> bytes:
    return HEAD + name("copyreg", "_reconstructor") + name("builtins", "list") * 2 + b"N\x87R."


def attributes_of_a_class(marker: Path) -> bytes:
    """Would replace a method of LogisticRegression for the whole process."""
    state = b"N}" + text("predict") + name("posix", "system") + b"s\x86"
    return HEAD + name("sklearn.linear_model._logistic", "LogisticRegression") + state + b"b."


def method_of_an_instance(marker: Path) -> bytes:
    new = name("sklearn.linear_model._logistic", "LogisticRegression") + b")\x81"
    return HEAD + new + b"}" + text("predict") + name("numpy", "float64") + b"sb."


def items_of_an_instance(marker: Path) -> bytes:
    new = name("sklearn.pipeline", "Pipeline") + b")\x81"
    return HEAD + new + text("a") + text("b") + b"s."


def appended_to_an_instance(marker: Path) -> bytes:
    return HEAD + name("sklearn.pipeline", "Pipeline") + b")\x81" + text("a") + b"a."


def codec(marker: Path) -> bytes:
    return HEAD + name("_codecs", "encode") + text("a") + text("rot13") + b"\x86R."


def persistent_id(marker: Path) -> bytes:
    return b"Pstorage\n."


def numpy_load(marker: Path) -> bytes:
    np.save(marker.parent / "evil.npy", np.array([Touch(marker)], dtype=object), allow_pickle=True)
    arguments = text(str(marker.parent / "evil.npy")) + b"N\x88"
    return HEAD + name("numpy", "load") + arguments + b"\x87R."


def object_hidden_in_bytes(marker: Path) -> bytes:
    """A structured dtype that says it holds no objects, over bytes that are their addresses."""
    field = name("numpy", "dtype") + text("O8") + b"\x89\x88\x87R"
    dtype = name("numpy", "dtype") + text("V8") + b"\x89\x88\x87R"
    fields = b"}" + text("a") + field + b"K\x00\x86s"
    state = b"(K\x03" + text("|") + b"N" + text("a") + b"\x85" + fields + b"K\x08K\x01K\x00t"
    return HEAD + dtype + state + b"b."


def array_longer_than_its_bytes(marker: Path) -> bytes:
    array = pickle.dumps(np.zeros(4), protocol=4)
    return array.replace(b"K\x04\x85", b"K\x7f\x85")


def huge_bytes(marker: Path) -> bytes:
    return HEAD + name("builtins", "bytearray") + b"J\xff\xff\xff\x7f\x85R."


MAKERS: list[Callable[[Path], bytes]] = [
    reduced,
    reduced_in_text,
    inside_an_estimator,
    names_through_the_memo,
    dotted_name,
    dotted_through_an_allowed_class,
    old_style_instance,
    object_opcode,
    of_an_allowed_class_with_arguments,
    new_object_with_keywords,
    partial,
    attribute_lookup,
    nested_pickle,
    reconstructor_of_a_list,
    attributes_of_a_class,
    method_of_an_instance,
    items_of_an_instance,
    appended_to_an_instance,
    codec,
    persistent_id,
    numpy_load,
    object_hidden_in_bytes,
    array_longer_than_its_bytes,
    huge_bytes,
]


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_nothing_of_the_file_runs(make: Callable[[Path], bytes], tmp_path: Path) -> None:
    data = make(tmp_path / "ran")

    with pytest.raises(UnsafeCheckpoint, match="refused"):
        load(data)

    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "make",
    [
        reduced,
        reduced_in_text,
        names_through_the_memo,
        old_style_instance,
        object_opcode,
        attribute_lookup,
        nested_pickle,
    ],
    ids=lambda make: make.__name__,
)
def test_python_itself_would_have_run_it(make: Callable[[Path], bytes], tmp_path: Path) -> None:
    """The control: these are attacks, not mistakes."""
    pickle.loads(make(tmp_path / "ran"))

    assert (tmp_path / "ran").exists()


# Callables that scanners let through until somebody told them, by the trackers of picklescan and fickling.
NAMES = """
os.system posix.system nt.system subprocess.Popen builtins.eval builtins.exec builtins.__import__
pip.main pip._internal.main pty.spawn bdb.Bdb.run timeit.timeit profile.run cProfile.runctx trace.Trace.run
pydoc.pipepager doctest.debug_script code.InteractiveInterpreter runpy.run_path ensurepip._run_pip
idlelib.run.Executive.runcode lib2to3.pgen2.grammar.Grammar.loads logging.config._resolve
numpy.testing._private.utils.runstring numpy.f2py.crackfortran.getlincoef numpy.load numpy.memmap
numpy.fromfile torch.load torch.utils.bottleneck.__main__.run_cprofile
torch.jit.unsupported_tensor_ops.execWrapper
joblib.load joblib.numpy_pickle.NDArrayWrapper joblib.memory.Memory joblib.parallel.Parallel
sklearn.utils._testing.create_memmap_backed_data sklearn.datasets.load_files
sklearn.metrics.get_scorer
sklearn.linear_model._logistic.os xgboost.core.ctypes lightgbm.basic.ctypes
ctypes.CDLL types.FunctionType types.CodeType operator.attrgetter operator.methodcaller
functools.partialmethod functools.reduce itertools.starmap importlib.import_module copyreg.__newobj__
copyreg.add_extension
cloudpickle.cloudpickle._make_function dill._dill._load_type webbrowser.open socket.create_connection
shutil.rmtree pathlib.Path uuid._get_command_stdout imaplib.IMAP4_stream distutils.file_util.write_file
asyncio.unix_events._UnixSubprocessTransport._start multiprocessing.util.spawnv_passfds
"""


@pytest.mark.parametrize("dotted", NAMES.split())
def test_a_name_that_is_not_on_the_list_is_refused_by_its_name(dotted: str) -> None:
    module, _, attribute = dotted.rpartition(".")

    with pytest.raises(UnsafeCheckpoint) as caught:
        load(HEAD + name(module, attribute) + b".")

    assert caught.value.details["refused"] == dotted


@pytest.fixture
def extension_code() -> Iterator[None]:
    copyreg.add_extension("posix", "system", 0x70)
    yield
    copyreg.remove_extension("posix", "system", 0x70)


def test_an_extension_code_is_refused_even_when_it_was_looked_up_before(extension_code: None) -> None:
    pickle.loads(b"\x80\x02\x82\x70.")

    with pytest.raises(UnsafeCheckpoint, match="extension code"):
        load(b"\x80\x02\x82\x70.")


@pytest.mark.parametrize("compress", [0, 3], ids=["plain", "compressed"])
def test_an_array_of_objects_in_joblib_is_read_by_the_same_gate(compress: int, tmp_path: Path) -> None:
    array = np.array([1, Touch(tmp_path / "ran")], dtype=object)
    joblib.dump({"first": np.arange(3), "second": array}, tmp_path / "model.joblib", compress=compress)

    with pytest.raises(UnsafeCheckpoint, match=r"posix\.system"):
        estimators.read(tmp_path / "model.joblib")

    assert not (tmp_path / "ran").exists()


def test_what_follows_an_array_of_joblib_is_read_by_the_same_gate(tmp_path: Path) -> None:
    joblib.dump([np.arange(3), Touch(tmp_path / "ran")], tmp_path / "model.joblib")

    with pytest.raises(UnsafeCheckpoint, match=r"posix\.system"):
        estimators.read(tmp_path / "model.joblib")


def test_arrays_of_joblib_come_out_as_they_went_in(tmp_path: Path) -> None:
    arrays = {
        "c": np.arange(6.0).reshape(2, 3),
        "f": np.asfortranarray(np.arange(6, dtype=np.int32).reshape(2, 3)),
        "objects": np.array(["a", None], dtype=object),
        "records": np.array([(1, 2.0)], dtype=[("x", "i4"), ("y", "f8")]),
        "scalar": np.float32(3.5),
        "big endian": np.arange(3, dtype=">f4"),
        "text": np.array(["left", "right"]),
        "none": np.zeros((0, 4)),
    }
    for compress in (0, ("gzip", 3), ("bz2", 3), ("xz", 3), ("lzma", 3)):
        joblib.dump(arrays, tmp_path / "model.joblib", compress=compress)
        with open_bounded(tmp_path / "model.joblib") as file:
            loaded = pickle_gate.load(file)
        for key, array in arrays.items():
            np.testing.assert_array_equal(loaded[key], array)
            assert loaded[key].dtype == array.dtype


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol_is_understood(protocol: int) -> None:
    estimator = DecisionTreeClassifier(random_state=0).fit(X, Y)

    loaded = load(pickle.dumps(estimator, protocol=protocol))

    np.testing.assert_array_equal(loaded.predict(X), estimator.predict(X))


def test_a_compressed_bomb_stops_at_the_limit(tmp_path: Path) -> None:
    joblib.dump(np.zeros(1_000_000), tmp_path / "model.joblib", compress=9)

    with (
        open_bounded(tmp_path / "model.joblib", limit_bytes=1_000_000) as file,
        pytest.raises(InvalidSource, match="more than 1,000,000 bytes"),
    ):
        pickle_gate.load(file)


@pytest.mark.parametrize("size", [1, 10, 100, 500])
def test_a_file_that_was_cut_is_no_fault_of_ours(size: int, tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(DecisionTreeClassifier().fit(X, Y))[:size])

    with pytest.raises(InvalidSource):
        estimators.read(tmp_path / "model.pkl")


def _tree(change: Callable[[dict[str, Any]], None]) -> Any:
    estimator = DecisionTreeClassifier(random_state=0).fit(X, Y)
    state = estimator.tree_.__getstate__()
    state["nodes"] = state["nodes"].copy()
    change(state)

    reduced_tree = estimator.tree_.__reduce__()[:2]

    class Stored:
        """Pickles as the tree that scikit-learn would believe."""

        def __reduce__(self) -> tuple[Any, ...]:
            return (*reduced_tree, state)

    estimator.tree_ = Stored()
    return estimator


def _far_child(state: dict[str, Any]) -> None:
    state["nodes"]["left_child"][0] = 1 << 40


def _circle(state: dict[str, Any]) -> None:
    state["nodes"]["left_child"][2] = 0


def _far_column(state: dict[str, Any]) -> None:
    state["nodes"]["feature"][0] = 1 << 40


@pytest.mark.parametrize(
    "change",
    [_far_child, _circle, _far_column],
    ids=lambda change: change.__name__,
)
def test_a_tree_that_leaves_its_memory_is_refused(
    change: Callable[[dict[str, Any]], None], tmp_path: Path
) -> None:
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(_tree(change)))

    with pytest.raises(UnsafeCheckpoint, match="memory outside its arrays"):
        estimators.read(tmp_path / "model.pkl")


def _more_stages() -> Any:
    estimator = GradientBoostingRegressor(n_estimators=1, init="zero").fit(X, Y)
    estimator.estimators_ = np.repeat(estimator.estimators_, 1000, axis=1)
    return estimator


def _narrow_first_guess() -> Any:
    estimator = GradientBoostingClassifier(n_estimators=1).fit(X, Y)
    estimator.init_ = DummyClassifier().fit(X, Y == 1)
    return estimator


def _member_of_another_class() -> Any:
    estimator = GradientBoostingRegressor(n_estimators=2, init="zero").fit(X, Y)
    wide = DecisionTreeRegressor(max_depth=1).fit(np.hstack([X, X]), Y)
    member = Binarizer()
    member.__dict__.update(n_features_in_=4, tree_=wide.tree_)
    estimator.estimators_[1, 0] = member
    return estimator


def _wide_member_of_a_forest() -> Any:
    estimator = RandomForestClassifier(2).fit(X, Y)
    estimator.estimators_[1] = DecisionTreeClassifier().fit(np.hstack([X, X]), Y)
    estimator.estimators_[1].n_features_in_ = 4
    return estimator


def _neighbours(name: str, value: Any) -> Callable[[], Any]:
    def make() -> Any:
        estimator = KNeighborsClassifier(algorithm="brute").fit(X, Y)
        setattr(estimator, name, value)
        return estimator

    return make


def _machine(name: str, value: Any) -> Callable[[], Any]:
    def make() -> Any:
        estimator = SVC().fit(X, Y)
        setattr(estimator, name, value)
        return estimator

    return make


def _short_bins() -> Any:
    estimator = HistGradientBoostingClassifier(max_iter=1).fit(X, Y)
    estimator._bin_mapper.is_categorical_ = np.zeros(1, np.uint8)
    return estimator


def _hidden_in_a_key() -> Any:
    estimator = MultiOutputRegressor(DecisionTreeRegressor(max_depth=1)).fit(X, X[:, :1])
    estimator.estimators_ = {_tree(_far_child): 0}
    return estimator


@pytest.mark.parametrize(
    "make",
    [
        _more_stages,
        _narrow_first_guess,
        _member_of_another_class,
        _wide_member_of_a_forest,
        _neighbours("_y", np.full(150, 1 << 33)),
        _neighbours("_y", np.zeros(3, int)),
        _neighbours("_fit_X", X[:, :2]),
        _machine("support_", np.arange(5000, dtype=np.int32)),
        _machine("_impl", "epsilon_svr"),
        _machine("kernel", "precomputed"),
        _machine("_n_support", np.array([1, 1, 1], np.int32)),
        _short_bins,
        _hidden_in_a_key,
    ],
)
def test_an_estimator_that_leaves_its_memory_is_refused(make: Callable[[], Any], tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(make()))

    with pytest.raises(UnsafeCheckpoint, match="memory outside its arrays"):
        estimators.read(tmp_path / "model.pkl")


def test_a_booster_has_no_attribute_in_place_of_a_method() -> None:
    estimator = lightgbm.LGBMRegressor(n_estimators=1, verbose=-1).fit(X, Y)
    estimator.booster_.predict = 1

    with pytest.raises(UnsafeCheckpoint, match="that replaces a method"):
        load(pickle.dumps(estimator))


def test_the_operator_may_allow_what_no_list_knows(tmp_path: Path) -> None:
    data = reduced(tmp_path / "ran")
    (tmp_path / "model.pkl").write_bytes(data)

    with pytest.raises(InvalidSource, match="not a fitted estimator"):
        estimators.load(tmp_path / "model.pkl", {}, Trust(unsafe_checkpoints=True))

    assert (tmp_path / "ran").exists()


def test_an_export_of_a_hostile_pickle_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(inside_an_estimator(tmp_path / "ran"))

    with pytest.raises(UnsafeCheckpoint, match=r"posix\.system"):
        run(ExportRequest(tmp_path / "model.pkl", tmp_path / "out", "onnx"))

    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "out").exists()
