"""Whatever several do at once with the versions and aliases of a few names, the promises hold."""

import threading
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model_service.config import Settings
from model_service.errors import Conflict, NotFound
from model_service.services import Services, build_services
from model_service.services.common.references import MINORS
from model_service.storage.common.db import Database
from model_service.storage.stores import build_stores
from tests.factories import model_fields

NAMES = ("digits", "vision/digits")
ALIASES = ("production", "candidate")
Step = tuple[str, str, str, int]

steps = st.lists(
    st.tuples(
        st.sampled_from(["register", "register", "alias", "alias", "unalias", "tag", "delete", "restore"]),
        st.sampled_from(NAMES),
        st.sampled_from(ALIASES),
        st.integers(0, 3),
    ),
    min_size=3,
    max_size=10,
)


class Player:
    """One client: carries out its steps, and counts for each model how often it changed it."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self.made: list[str] = []
        self.failures: list[Exception] = []

    def play(self, mine: list[Step]) -> None:
        actions: dict[str, Callable[[str, str, int], Any]] = {
            "register": self._register,
            "alias": lambda name, alias, n: self._services.aliases.set(f"models:/{name}/v1.{n}", alias),
            "unalias": lambda name, alias, n: self._services.aliases.remove(f"models:/{name}@{alias}", alias),
            "tag": lambda name, alias, n: self._services.models.update(
                f"models:/{name}/v1.{n}", {"tags": [alias, str(n)]}
            ),
            "delete": lambda name, alias, n: self._services.models.delete(f"models:/{name}/v1.{n}"),
            "restore": lambda name, alias, n: self.made and self._services.trash.restore(self.made[0]),
        }
        for action, name, alias, number in mine:
            try:
                actions[action](name, alias, number)
            except (NotFound, Conflict):
                pass  # a rule of the service; anything else is a failure
            except Exception as exc:
                self.failures.append(exc)

    def _register(self, name: str, alias: str, number: int) -> None:
        model = self._services.models.register(model_fields(name=name))
        self.made.append(str(model["_id"]))


def check(database: Database) -> None:
    alive = list(database.models.find())
    deleted = list(database.deleted_models.find())
    for name in NAMES:
        numbers = sorted(model["version_order"] for model in alive + deleted if model["name"] == name)
        assert numbers == [MINORS + minor for minor in range(len(numbers))]  # unique, dense, from v1.0 on
        for alias in ALIASES:
            holders = [
                model for model in alive if model["name"] == name and alias in model.get("aliases", ())
            ]
            assert len(holders) <= 1
    for model in alive + deleted:
        changes = database.audit.count_documents(
            {"subject_id": str(model["_id"]), "action": {"$ne": "deleted"}}
        )
        assert model["revision"] == changes
    counted = sum(group["models"] for group in database.model_counters.find())
    assert counted == len(alive)


@given(players=st.lists(steps, min_size=2, max_size=4))
@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_versions_and_aliases_under_concurrent_writers(
    settings: Settings, database: Database, players: list[list[Step]]
) -> None:
    for collection in ("models", "deleted_models", "version_numbers", "audit", "model_counters"):
        database.collection(collection).delete_many({})
    services = build_services(settings, build_stores(database, settings))
    at_once = [Player(services) for _ in players]
    threads = [
        threading.Thread(target=player.play, args=(mine,))
        for player, mine in zip(at_once, players, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [failure for player in at_once for failure in player.failures] == []
    check(database)
