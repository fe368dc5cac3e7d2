"""What a small and a large registry take to answer the same questions, at one connection."""

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from urllib.parse import quote, urlencode

import orjson
from http_load import Target, one_by_one
from model_versions import VERSIONS, has_production, name_of, random_tag, random_words

MODELS = "/api/v1/models"
PAGE = 20
DEEP_PAGE = 10_000
# What may grow with the registry: a word search reads the versions that have one word to find those with two.
PROMISES = {"words": 4.0}
PROMISE = 2.0


@dataclass
class Registry:
    """A server with so many versions, and paths that ask it about them."""

    target: Target
    versions: int

    def __post_init__(self) -> None:
        self._chance = random.Random(0)  # noqa: S311 - data, no secret
        self._ids = self._sample_ids()
        self._deep_page = f"{MODELS}?{urlencode({'limit': PAGE, 'cursor': self._deep_cursor()})}"

    def paths(self) -> dict[str, Callable[[], str]]:
        ask = self._ask
        chance = self._chance
        return {
            "by id": lambda: f"{MODELS}/{chance.choice(self._ids)}",
            "by name and alias": lambda: (
                f"{MODELS}/{quote(f'models:/{self._aliased()}@production', safe='')}"
            ),
            "list, filtered": lambda: ask(algorithm="xgboost", status="active"),
            "by tag": lambda: ask(tags=random_tag(chance)),
            "by metric": lambda: ask(min_f1_score=0.9, sort="-metrics.f1_score"),
            "words": lambda: ask(q=" ".join(random_words(chance, 2))),
            "first page": lambda: ask(),
            f"page {DEEP_PAGE:,}, by cursor": lambda: self._deep_page,
        }

    def requests(self, kind: str, count: int) -> list[bytes]:
        path = self.paths()[kind]
        return [self.target.get(path()) for _ in range(count)]

    def _aliased(self) -> str:
        names = range(0, self.versions // VERSIONS, 3)
        number = self._chance.choice(names)
        assert has_production(number)
        return name_of(number)

    def _ask(self, **query: object) -> str:
        return f"{MODELS}?{urlencode({'limit': PAGE, **query})}"

    def _sample_ids(self) -> list[str]:
        """A thousand from all over: of names picked by chance."""
        ids: list[str] = []
        while len(ids) < 1000:
            name = name_of(self._chance.randrange(self.versions // VERSIONS))
            ids += [model["id"] for model in self._models(self._ask(name=name))]
        return ids

    def _models(self, path: str) -> list[dict[str, str]]:
        models: list[dict[str, str]] = orjson.loads(self.target.ask(self.target.get(path)))["models"]
        return models

    def _deep_cursor(self) -> str:
        """Of the deep page, or the last full one: every page before it is asked for."""
        *_, cursor = islice(self._cursors(), min(DEEP_PAGE, self.versions // PAGE) - 1)
        return cursor

    def _cursors(self) -> Iterator[str]:
        path = self._ask()
        while True:
            answer = orjson.loads(self.target.ask(self.target.get(path)))
            cursor = answer["pagination"]["next_cursor"]
            yield cursor
            path = self._ask(cursor=cursor)


def measurements(registries: Mapping[str, Registry], requests: int) -> dict[str, Callable[[], float]]:
    """For every kind of question and every registry: its p50 in µs."""

    def p50(registry: Registry, kind: str) -> float:
        return one_by_one(registry.target, registry.requests(kind, requests)).p50_ms * 1000

    kinds = next(iter(registries.values())).paths()
    return {
        f"{kind}, {size}": partial(p50, registry, kind)
        for kind in kinds
        for size, registry in registries.items()
    }
