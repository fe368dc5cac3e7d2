"""A chain of models: what goes where, and what does not fit."""

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest

from model_service.serving.engine.engine import Engine
from model_service.serving.hosting.ensemble import Ensemble
from model_service.serving.hosting.member import LoadFailed
from tests.serving.linear import Linear, model

X = np.asarray([[1, 2, 3]], np.float32)


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine(2)
    yield engine
    engine.stop()


def answer(ensemble: Ensemble, **inputs: np.ndarray) -> dict[str, list[list[float]]]:
    async def work() -> dict[str, list[list[float]]]:
        ran = await ensemble.submit(dict(inputs))
        return {name: array.tolist() for name, array in ran.outputs.items()}

    return asyncio.run(work())


@pytest.mark.parametrize("seconds", [1e-5, 1.0])
def test_outputs_are_passed_on_by_name_else_by_order(engine: Engine, seconds: float) -> None:
    first = model("first", Linear(2.0, output="features"), engine, seconds=seconds)
    second = model("second", Linear(10.0, ("features",), "logits"), engine, seconds=seconds)
    third = model("third", Linear(0.5, ("anything",), "y"), engine, seconds=seconds)
    ensemble = Ensemble("chain", [(first, None), (second, None), (third, None)])
    assert [spec.name for spec in ensemble.inputs] == ["x"]
    assert [spec.name for spec in ensemble.outputs] == ["y"]
    assert answer(ensemble, x=X) == {"y": [[10.0, 20.0, 30.0]]}


def test_a_member_takes_from_any_before_it_and_from_the_request(engine: Engine) -> None:
    first = model("v1.0", Linear(2.0), engine)
    second = model("v2.0", Linear(3.0), engine)
    last = model("last", Linear(1.0, ("one", "two", "three")), engine)
    sources = {"one": "v1.0.y", "two": "v2.0.y", "three": "scale"}
    ensemble = Ensemble("chain", [(first, None), (second, {"x": "x"}), (last, sources)])
    assert [spec.name for spec in ensemble.inputs] == ["x", "scale"]
    assert answer(ensemble, x=X, scale=X * 100) == {"y": [[105.0, 210.0, 315.0]]}


def test_what_does_not_fit_is_refused_when_it_is_loaded(engine: Engine) -> None:
    first = model("first", Linear(2.0), engine)
    with pytest.raises(LoadFailed, match=r"takes 'x' from 'first\.z', but no earlier member has that output"):
        Ensemble("chain", [(first, None), (model("second", Linear(1.0), engine), {"x": "first.z"})])
    with pytest.raises(LoadFailed, match="has no input 'w'"):
        Ensemble("chain", [(first, None), (model("second", Linear(1.0), engine), {"w": "first.y"})])
    wide = model("second", Linear(1.0, width=4), engine)
    with pytest.raises(LoadFailed, match=r"float32\[batch, 3\], but second takes float32\[batch, 4\]"):
        Ensemble("chain", [(first, None), (wide, {"x": "first.y"})])
