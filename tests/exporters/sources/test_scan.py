"""What is said of an uploaded file, whatever it is."""

import io
import os
import pickle
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import lightgbm
import numpy as np
import pytest
import skops.io
import torch
import xgboost
from safetensors.numpy import save as safetensors
from skl2onnx import to_onnx
from sklearn.linear_model import LogisticRegression

from exporters import sources
from exporters.errors import ExportError
from exporters.request import Trust
from exporters.sources.scan import _look as look
from exporters.sources.scan import scan
from tests.exporters.sources import hostile


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("true",)


def _estimator() -> Any:
    return LogisticRegression().fit([[0.0], [1.0]], [0, 1])


def test_an_honest_pickle_names_only_data(tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(_estimator()))

    found = scan(tmp_path / "model.pkl")

    assert (found["format"], found["safe"], found["issues"]) == ("pickle", True, [])
    assert "sklearn.linear_model._logistic.LogisticRegression" in found["globals"]
    assert set(found["scanners"]) == {"picklescan", "fickling"}


HOSTILE = list(hostile.files())


@pytest.mark.parametrize(("kind", "name", "content"), HOSTILE, ids=[name for _, name, _ in HOSTILE])
def test_no_hostile_file_is_called_safe_or_runs(
    kind: str, name: str, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked at and loaded here, without the child around it: the gates alone keep it from running."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / name.replace("/", "_")
    path.write_bytes(content)

    found = look(path)
    if name.endswith("-behind.pkl") or name == "more.skops":
        sources.load(path, {}, Trust())  # what is of no use to the model is not read
    else:
        with pytest.raises(ExportError, match=r"\w+ \w+ \w+"):
            sources.load(path, {}, Trust())

    assert found["verdict"] != "safe"
    assert len(found["reason"]) > 20
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_there_are_150_hostile_files_of_12_kinds() -> None:
    kinds = Counter(kind for kind, _, _ in HOSTILE)
    assert len(kinds) >= 12
    assert sum(kinds.values()) >= 150


def _honest() -> Iterator[tuple[str, bytes]]:
    """Files of the kinds that are understood in full."""
    weights = io.BytesIO()
    torch.save({"weights": torch.zeros(2)}, weights)
    yield "weights.pt", weights.getvalue()
    program = io.BytesIO()
    torch.export.save(torch.export.export(torch.nn.Linear(2, 2), (torch.zeros(1, 2),)), program)
    yield "program.pt2", program.getvalue()
    yield "estimator.pkl", pickle.dumps(_estimator())
    yield "estimator.skops", skops.io.dumps(_estimator())
    yield "weights.safetensors", safetensors({"w": np.zeros((2, 3), np.float16), "v": np.zeros(0, np.int64)})
    yield "config.json", b'{"model_type": "bert"}'
    arrays = io.BytesIO()
    np.savez(arrays, x=np.zeros(3), y=np.array(["text"]))
    yield "arrays.npz", arrays.getvalue()
    yield "model.onnx", to_onnx(_estimator(), np.zeros((1, 1), np.float32)).SerializeToString()
    x = np.random.default_rng(0).normal(size=(50, 3))
    yield (
        "booster.ubj",
        bytes(xgboost.XGBRegressor(n_estimators=2).fit(x, x[:, 0]).get_booster().save_raw("ubj")),
    )
    yield (
        "booster.txt",
        lightgbm.LGBMRegressor(n_estimators=2, verbose=-1)
        .fit(x, x[:, 0])
        .booster_.model_to_string()
        .encode(),
    )


@pytest.mark.parametrize("name", [name for name, _ in _honest()])
def test_what_is_understood_in_full_is_safe(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(dict(_honest())[name])

    found = look(tmp_path / name)

    assert (found["verdict"], found["safe"], found["issues"]) == ("safe", True, [])


def test_code_is_found_by_both(tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(Evil()))

    found = scan(tmp_path / "model.pkl")

    assert found["safe"] is False
    assert found["globals"] == ["posix.system"]
    assert {"picklescan" in issue or "fickling" in issue for issue in found["issues"]} == {True}


def test_code_in_a_checkpoint_of_torch_is_found(tmp_path: Path) -> None:
    torch.save({"weights": torch.zeros(2), "note": Evil()}, tmp_path / "model.pt")

    found = scan(tmp_path / "model.pt")

    assert (found["format"], found["safe"]) == ("torch", False)


def test_weights_are_data(tmp_path: Path) -> None:
    torch.save({"weights": torch.zeros(2)}, tmp_path / "model.pt")

    assert scan(tmp_path / "model.pt")["safe"] is True


def test_code_behind_an_array_of_joblib_is_not_called_safe(tmp_path: Path) -> None:
    joblib.dump([np.arange(3), Evil()], tmp_path / "model.joblib")

    found = scan(tmp_path / "model.joblib")

    assert found["safe"] is not True
    assert "not read" in found["issues"][0]


def test_somebody_elses_class_is_for_somebody_else_to_judge(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "model.pt")

    assert scan(tmp_path / "model.pt")["safe"] is None


def test_a_deep_pickle_ends(tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(b"\x80\x04" + b"]" * 20_000 + b"a" * 19_999 + b".")

    assert scan(tmp_path / "model.pkl")["safe"] is not True


def test_of_a_large_file_only_the_beginning_is_read(tmp_path: Path) -> None:
    with (tmp_path / "model.pkl").open("wb") as file:
        file.write(b"\x80\x04\x8e" + (1 << 33).to_bytes(8, "little"))
        file.truncate(1 << 33)

    found = scan(tmp_path / "model.pkl")

    assert found["safe"] is None
    assert any("only its first" in issue for issue in found["issues"])


@pytest.mark.parametrize(
    "content",
    [b"", b"text", b"\x80", b"\x80\x04\x95", b"PK\x03\x04" + b"\x00" * 50, b"\x78\x9c" + b"\xff" * 40],
    ids=["empty", "text", "one byte", "cut", "zip", "zlib"],
)
def test_malformed_files_are_only_a_finding(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(content)

    found = scan(tmp_path / "model")

    assert set(found) == {"verdict", "reason", "format", "safe", "globals", "issues", "scanners"}
    assert found["safe"] is not False


def test_a_bomb_in_an_archive_is_not_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            "model/data.pkl", b"\x80\x02X" + (200 << 20).to_bytes(4, "little") + bytes(200 << 20)
        )

    assert any("only its first" in issue for issue in scan(tmp_path / "model.pt")["issues"])


def test_a_file_that_is_not_there_is_only_a_finding(tmp_path: Path) -> None:
    assert scan(tmp_path / "nothing")["safe"] is None


def test_the_scanners_know_nothing_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given: list[dict[str, str]] = []
    run = subprocess.run

    def spy(*arguments: Any, **more: Any) -> Any:
        given.append(more["env"])
        return run(*arguments, **more)

    monkeypatch.setenv("SECRET", "of the service")
    monkeypatch.setattr(subprocess, "run", spy)
    (tmp_path / "model.pkl").write_bytes(pickle.dumps([1]))

    assert scan(tmp_path / "model.pkl")["safe"] is True
    assert {"SECRET", "PATH"}.isdisjoint(given[0])
    assert given[0]["HOME"] != os.environ.get("HOME")
    assert not Path(given[0]["TMPDIR"]).exists()


def test_the_scanners_read_no_file_but_the_one(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    for name in ("model.pkl", "secret"):
        (tmp_path / name).write_bytes(pickle.dumps([1]))
    code = (
        "import sys; from exporters.sources import scan; path, own = sys.argv[1:];"
        "scan._look = lambda path: [path.read_bytes(), (path.parent / 'secret').read_bytes()];"
        "scan._main(path, own)"
    )

    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "model.pkl"), str(own)],
        capture_output=True,
        text=True,
        check=False,
    )

    (refused,) = [line for line in done.stderr.splitlines() if line.startswith("PermissionError")]
    assert refused.endswith("secret'")
