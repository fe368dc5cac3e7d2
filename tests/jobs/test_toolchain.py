"""What a worker says it can convert."""

import importlib.metadata

from exporters import registry
from exporters.base import FAMILIES
from model_service.config import Settings
from model_service.jobs.presence import Presence
from model_service.jobs.toolchain import find_toolchain
from model_service.services.toolchains import Toolchains
from model_service.storage.db import Database
from model_service.storage.workers import Workers


def test_a_worker_reports_its_tools_and_what_they_make(settings: Settings, database: Database) -> None:
    found = find_toolchain()
    assert found is not None
    assert set(found.formats) == {spec.name for spec in registry.specifications()}
    for name, families in found.formats.items():
        assert set(families) == {FAMILIES[kind] for kind in registry.kinds(name)}
        for family, reason in families.items():
            assert reason == registry.why_unavailable(name, family)
    assert found.formats["onnx"]["program"] is None
    assert found.tools["torch"] == importlib.metadata.version("torch")
    assert find_toolchain() == found

    workers = Workers(database)
    Presence(workers, "w", found).report()
    Presence(workers, "one that knows nothing").report()
    assert Toolchains(workers).digests() == [found.digest]
    assert Toolchains(workers).reports() == [found.to_json()]
