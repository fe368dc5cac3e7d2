"""Which member answers: by weight, by a header, by name."""

import random
from collections import Counter
from collections.abc import Iterator

import pytest

from model_service.errors import InvalidField
from model_service.serving.engine.engine import Engine
from model_service.serving.hosting.member import Model
from model_service.serving.hosting.routing import Route
from tests.serving.linear import Linear, model


@pytest.fixture
def members() -> Iterator[list[Model]]:
    engine = Engine(1)
    yield [model(name, Linear(1.0), engine, version=f"v{name}") for name in ("a", "b", "c")]
    engine.stop()


def test_requests_are_split_by_weight(members: list[Model]) -> None:
    random.seed(0)
    route = Route(members, [90, 10, 0])
    found = Counter(route.choose(None, {}).name for _ in range(5000))
    assert 0.88 < found["a"] / 5000 < 0.92
    assert found["c"] == 0


def test_a_header_keeps_a_caller_with_one_member(members: list[Model]) -> None:
    route = Route(members, [50, 50, 0], "X-User")
    chosen = {
        user: {route.choose(None, {"x-user": user}).name for _ in range(5)} for user in map(str, range(200))
    }
    assert all(len(names) == 1 for names in chosen.values())
    assert {name for names in chosen.values() for name in names} == {"a", "b"}


def test_most_callers_stay_where_they_are_when_the_weights_change(members: list[Model]) -> None:
    before, after = Route(members[:2], [90, 10], "X-User"), Route(members[:2], [80, 20], "X-User")
    users = [{"x-user": str(user)} for user in range(1000)]
    moved = sum(before.choose(None, user) is not after.choose(None, user) for user in users)
    assert 50 < moved < 150


def test_a_member_may_be_named_by_its_name_or_its_version(members: list[Model]) -> None:
    route = Route(members, [100, 0, 0])
    assert route.choose("c", {}) is members[2]
    assert route.choose("vb", {}) is members[1]
    with pytest.raises(InvalidField, match="there is no 'd'; this deployment has 'a', 'b', 'c'"):
        route.choose("d", {})


def test_several_models_have_to_be_named(members: list[Model]) -> None:
    with pytest.raises(InvalidField, match="model: missing; this deployment has 'a', 'b', 'c'"):
        Route(members).choose(None, {})
    assert Route(members[:1]).choose(None, {}) is members[0]
