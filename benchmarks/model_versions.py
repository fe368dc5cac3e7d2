"""A registry's worth of model versions, made by the service's own rules and put past its HTTP.

Ten algorithms, 5,000 tags of which few are common, four to six metrics, ten versions a name, descriptions of
words that are as rare as words are. The same number gives the same versions.
"""

import itertools
import multiprocessing
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from bson import ObjectId
from pymongo import MongoClient, WriteConcern

from model_service.actor import namespace_of
from model_service.api.schemas.models import NewModel
from model_service.config import Settings
from model_service.services.models.versions import Wanted
from model_service.storage.common.db import Database, deadline
from model_service.storage.models.documents import new_model
from model_service.storage.models.search import derived_fields
from model_service.storage.stores import build_stores

VERSIONS = 10  # of a name
TAGS = 5_000
WORDS = 3_000
BATCH = 1_000
ALGORITHMS = (
    *("xgboost", "random_forest", "logistic_regression", "svm", "neural_network"),
    *("resnet", "transformer", "lstm", "k_means", "gradient_boosting"),
)
FRAMEWORKS = ("pytorch", "scikit-learn", "tensorflow", "xgboost")
TASKS = ("classification", "regression", "detection", "segmentation")
STATUSES = ("active", "deprecated", "archived")
SUBJECTS = ("fraud", "churn", "credit", "sentiment", "demand", "image", "speech", "click", "price", "defect")
MORE_METRICS = ("precision", "recall", "auc_score", "loss", "train_accuracy", "latency_ms")
SYLLABLES = ("ba", "ce", "di", "fo", "gu", "ka", "le", "mi", "no", "pu", "ra", "se", "ti", "vo", "zu")


def fill(settings: Settings, versions: int, *, processes: int) -> None:
    """Put so many versions into an empty database, then its indexes and its statistics."""
    names = -(-versions // VERSIONS)
    shares = [range(start, names, processes) for start in range(processes)]
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes) as pool:
        pool.starmap(_insert, [(settings, share, versions) for share in shares])
    database = Database(settings)
    try:
        with deadline(3600):
            database.ensure_indexes()
            build_stores(database).counters.rebuild()
    finally:
        database.close()


def _insert(settings: Settings, names: range, versions: int) -> None:
    assert settings.mongodb_url is not None
    with MongoClient[dict[str, Any]](settings.mongodb_url.get_secret_value()) as client:
        models = client[settings.mongodb_db].get_collection("models", write_concern=WriteConcern(w=1))
        documents = (document for number in names for document in versions_of(number, versions))
        while batch := list(itertools.islice(documents, BATCH)):
            models.insert_many(batch, ordered=False)


def name_of(number: int) -> str:
    """One in five lies in a namespace."""
    name = f"{SUBJECTS[number % len(SUBJECTS)]}_{words()[number * 7 % WORDS]}_{number}"
    return f"team-{number % 50}/{name}" if number % 5 == 0 else name


def has_production(number: int) -> bool:
    return number % 3 == 0


def versions_of(number: int, versions: int) -> Iterator[dict[str, Any]]:
    """The versions of one name as they are stored, of a registry with ``versions`` in all."""
    chance = random.Random(number)  # noqa: S311 - data, no secret
    year = timedelta(days=365)
    for minor in range(min(VERSIONS, versions - number * VERSIONS)):
        fields = NewModel(**_sent(number, chance)).model_dump(exclude={"version", "breaking_changes"})
        created = datetime(2026, 1, 1, tzinfo=UTC) + year * ((number * VERSIONS + minor) / versions)
        file = {
            "file_id": ObjectId(),
            "size_bytes": chance.randrange(10**4, 10**9),
            "checksum": f"sha256:{chance.randbytes(32).hex()}",
        }
        document = {
            **new_model(fields, ObjectId(), created),
            **Wanted(f"v1.{minor}").number(None),
            "namespace": namespace_of(fields["name"]),
            "download_count": int(chance.paretovariate(1)) - 1,
            "files": [{"path": "model.pkl", **file, "content_type": "application/octet-stream"}],
            "file_metadata": {**file, "path": "model.pkl", "filename": "model.pkl", "format": "pickle"},
            "size_bytes": file["size_bytes"],
        }
        if has_production(number) and minor == VERSIONS // 2:
            document["aliases"] = ["production"]
        yield document | derived_fields(document)


def _sent(number: int, chance: random.Random) -> dict[str, Any]:
    metrics = {name: chance.random() for name in chance.sample(MORE_METRICS, chance.randrange(2, 5))}
    return {
        "name": name_of(number),
        "algorithm": chance.choice(ALGORITHMS),
        "framework": chance.choice(FRAMEWORKS),
        "task_type": chance.choice(TASKS),
        "description": " ".join(random_words(chance, 12)),
        "hyperparameters": {"max_depth": chance.randrange(12), "learning_rate": 0.1, "n_estimators": 200},
        "metrics": {"accuracy": chance.random(), "f1_score": chance.random(), **metrics},
        "dataset_info": {"name": "transactions", "features": 284, "samples": 500_000},
        "tags": sorted({random_tag(chance) for _ in range(3)}),
        "status": chance.choices(STATUSES, (90, 7, 3))[0],
        "created_by": f"engineer_{chance.randrange(200)}",
    }


def random_tag(chance: random.Random) -> str:
    """``tag-0`` is the most common; the n-th is n times as rare."""
    return f"tag-{chance.choices(range(TAGS), cum_weights=_zipf(TAGS))[0]}"


def random_words(chance: random.Random, count: int) -> list[str]:
    return chance.choices(words(), cum_weights=_zipf(WORDS), k=count)


@cache
def words() -> list[str]:
    return ["".join(parts) + "x" for parts in itertools.islice(itertools.product(SYLLABLES, repeat=3), WORDS)]


@cache
def _zipf(count: int) -> list[float]:
    return list(itertools.accumulate(1 / rank for rank in range(1, count + 1)))
