"""The cache of answers: fast where it is asked often, and never older than an acknowledged change."""

import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from pydantic import SecretStr
from redis import Redis

from model_service.config import Settings
from model_service.embedded import Addresses
from model_service.storage.common.db import Database
from model_service.storage.common.secrets import Secrets
from model_service.storage.models.hot_model import HotModel
from model_service.storage.models.hot_models import MAX_BODY_BYTES, HotModels, settle

TTL_S = 2


class Source:
    """What is acknowledged, and how often it was read."""

    def __init__(self) -> None:
        self.revision = 1
        self.reads = 0

    def load(self) -> HotModel:
        self.reads += 1
        return HotModel("vision/digits", self.revision, b'{"revision": %d}' % self.revision)


@pytest.fixture
def redis(servers: Addresses) -> Iterator[Redis]:
    with Redis.from_url(servers.redis_url) as client:
        yield client


@pytest.fixture
def source() -> Source:
    return Source()


def process(settings: Settings, **changes: object) -> HotModels:
    """What another API process has: its own memory, the same Redis."""
    settings = settings.model_copy(update={"metadata_cache_s": TTL_S, **changes})
    return HotModels(settings, Secrets(Database(settings)))


def warm(cache: HotModels, source: Source) -> None:
    for _ in range(3):
        cache.read("a", source.load)
    reads = source.reads
    cache.read("a", source.load)
    assert source.reads == reads, "it is not cached"


def test_what_is_read_often_is_read_once(settings: Settings, source: Source) -> None:
    cache = process(settings)
    found = [cache.read("a", source.load) for _ in range(10)]
    assert source.reads == 2  # the first read says only that it may be worth it
    assert set(found) == {HotModel("vision/digits", 1, b'{"revision": 1}')}


def test_what_is_read_once_does_not_touch_redis(settings: Settings, source: Source, redis: Redis) -> None:
    cache = process(settings)
    commands = redis.info("stats")["total_commands_processed"]
    for number in range(20):
        cache.read(str(number), source.load)
    assert redis.info("stats")["total_commands_processed"] == commands + 1


def test_another_process_is_never_stale_after_a_change(settings: Settings, source: Source) -> None:
    writer, reader = process(settings), process(settings)
    warm(reader, source)
    for _ in range(20):
        source.revision += 1
        writer.forget(["a"])
        found = reader.read("a", source.load)
        assert found is not None
        assert found.revision == source.revision


def test_an_answer_read_before_the_change_is_not_put_back(settings: Settings, source: Source) -> None:
    writer, reader = process(settings), process(settings)
    reader.read("a", source.load)

    def load_and_be_overtaken() -> HotModel:
        before = source.load()
        source.revision += 1
        writer.forget(["a"])
        return before

    reader.read("a", load_and_be_overtaken)
    found = reader.read("a", source.load)
    assert found is not None
    assert found.revision == source.revision


def test_an_answer_ends_by_itself(settings: Settings, source: Source, redis: Redis) -> None:
    """Also counted from before it was read: that is what a change without Redis waits for."""
    cache = process(settings)
    warm(cache, source)
    [key] = redis.keys("*:a")
    assert 0 < redis.pttl(key) <= TTL_S * 1000
    deadline = time.monotonic() + 30
    while redis.exists(key) and time.monotonic() < deadline:
        time.sleep(0.02)
    source.revision += 1
    found = cache.read("a", source.load)
    assert found is not None
    assert found.revision == 2


def test_a_lease_that_was_slow_does_not_prolong_the_answer(
    settings: Settings, source: Source, redis: Redis
) -> None:
    cache = process(settings)
    cache.read("a", source.load)

    def slow() -> HotModel:
        [key] = redis.keys("*:a")
        redis.pexpire(key, 300)
        return source.load()

    cache.read("a", slow)
    [key] = redis.keys("*:a")
    assert redis.pttl(key) <= 300


def test_what_is_not_there_is_not_remembered(settings: Settings, source: Source) -> None:
    cache = process(settings)
    for _ in range(3):
        assert cache.read("a", lambda: None) is None
    assert cache.read("a", source.load) is not None


def test_a_large_answer_stays_out_of_redis(settings: Settings, redis: Redis) -> None:
    cache = process(settings)
    large = HotModel("digits", 1, b"x" * (MAX_BODY_BYTES + 1))
    for _ in range(3):
        assert cache.read("a", lambda: large) == large
    [key] = redis.keys("*:a")
    assert redis.strlen(key) < 1000


def test_zero_turns_it_off(settings: Settings, source: Source, redis: Redis) -> None:
    cache = process(settings, metadata_cache_s=0.0)
    for _ in range(5):
        cache.read("a", source.load)
    cache.forget(["a"])
    assert source.reads == 5
    assert redis.dbsize() == 0


@pytest.fixture
def without_redis(settings: Settings) -> Settings:
    """Settings that name a Redis where nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    return settings.model_copy(update={"redis_url": SecretStr(f"redis://127.0.0.1:{port}/0")})


def test_without_redis_it_reads_on_and_does_not_try_every_time(
    without_redis: Settings, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = process(without_redis)
    attempts: list[str] = []
    get = cache._redis.get

    def counted(key: str) -> object:
        attempts.append(key)
        return get(key)

    monkeypatch.setattr(cache._redis, "get", counted)
    for _ in range(20):
        assert cache.read("a", source.load) is not None
    assert source.reads == 20
    assert len(attempts) == 1


def test_a_change_that_cannot_reach_redis_waits_until_others_forgot(
    settings: Settings, without_redis: Settings, source: Source
) -> None:
    """The reader still has Redis; the writer has not."""
    reader, writer = process(settings), process(without_redis)
    warm(reader, source)
    source.revision += 1
    writer.forget(["a"])
    settle()
    found = reader.read("a", source.load)
    assert found is not None
    assert found.revision == 2


def test_a_request_waits_once_for_all_its_changes(
    without_redis: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    naps: list[float] = []
    # The module's alone: other threads sleep on.
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=naps.append)
    monkeypatch.setattr("model_service.storage.models.hot_models.time", clock)
    writer = process(without_redis)
    for _ in range(5):
        writer.forget(["a"])
    settle()
    settle()
    assert len(naps) == 1
    assert 0 < naps[0] <= TTL_S


def test_readers_and_writers_at_once(settings: Settings) -> None:
    """Whoever reads after a change was acknowledged reads at least that change, through any process."""
    processes = [process(settings) for _ in range(3)]
    stored = {"a": 0, "b": 0}
    acknowledged = {"a": 0, "b": 0}
    lock = threading.Lock()
    deadline = time.monotonic() + 60
    failures: list[tuple[str, int, int]] = []

    def read(seed: int) -> None:
        choice = random.Random(seed)
        for _ in range(300):
            model_id = choice.choice("ab")
            at_least = acknowledged[model_id]
            found = choice.choice(processes).read(model_id, loader(model_id, choice))
            assert found is not None
            if found.revision < at_least:
                failures.append((model_id, found.revision, at_least))

    def loader(model_id: str, choice: random.Random) -> Callable[[], HotModel]:
        def load() -> HotModel:
            revision = stored[model_id]
            if choice.random() < 0.2:
                time.sleep(0.002)  # others act between the read and the store
            return HotModel("n", revision, b"")

        return load

    def write(seed: int) -> None:
        choice = random.Random(seed)
        for _ in range(100):
            model_id = choice.choice("ab")
            with lock:
                stored[model_id] += 1
                revision = stored[model_id]
            choice.choice(processes).forget([model_id])
            with lock:
                acknowledged[model_id] = max(acknowledged[model_id], revision)

    with ThreadPoolExecutor(8) as pool:
        done = [pool.submit(read, seed) for seed in range(5)] + [
            pool.submit(write, 100 + n) for n in range(3)
        ]
        for future in done:
            future.result(timeout=max(0.1, deadline - time.monotonic()))
    assert failures == []
