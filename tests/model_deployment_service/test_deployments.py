"""Deployments of age groups, with the registry's versions and aliases in a real MongoDB."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from pymongo import MongoClient

from model_service.embedded import Addresses
from model_service.errors import Conflict, GateRefused, NotFound
from model_service.model_deployment_service import (
    DeploymentResult,
    ModelCompatibilityError,
    ModelDeploymentConfig,
    ModelDeploymentError,
    ModelDeploymentService,
    ModelExporter,
    ModelExportMetadata,
    ModelValidationError,
    Session,
)
from model_service.model_deployment_service import deployments as deployments_module
from model_service.model_deployment_service import registration as registration_module
from model_service.model_deployment_service.export_folder import Export, ExportFolder
from model_service.model_deployment_service.registration import discard, register
from model_service.model_deployment_service.registry import OpenRegistry, Registries
from model_service.services import Services
from model_service.services.files.held import HeldFiles
from model_service.states import ModelStatus
from model_service.storage.common.db import Database
from model_service.storage.models.documents import Model
from model_service.storage.operations.document_check import check_document
from tests.model_deployment_service.conftest import Exported

OTHERS = 6


@pytest.fixture
def deploy(deployment: ModelDeploymentService, db: Session) -> Callable[..., DeploymentResult]:
    """Deploys an export, by default for 3 to 4 in production, without validation."""

    def make(export: Exported | str, low: float = 3, high: float = 4, **fields: Any) -> DeploymentResult:
        path = export if isinstance(export, str) else export.path
        config = ModelDeploymentConfig(path, low, high, **{"validate_before_deployment": False, **fields})
        return deployment.deploy_model(config, db)

    return make


def deployed(deployment: ModelDeploymentService, db: Session) -> list[tuple[int, str, float, float, str]]:
    return [
        (
            entry["model_id"],
            entry["deployment_environment"],
            entry["age_group_min"],
            entry["age_group_max"],
            entry["model_version"],
        )
        for entry in deployment.list_deployed_models(db)
    ]


def alias(services: Services, name: str = "production") -> str:
    return services.models.get(f"drawings@{name}")["version"]


def test_a_deployed_export_is_a_version_of_the_registry_with_the_environment_as_alias(
    deployment: ModelDeploymentService,
    deploy: Callable[..., DeploymentResult],
    exported: list[Exported],
    services: Services,
    database: Database,
    db: Session,
) -> None:
    result = deploy(exported[0], 3.0, 4.5, validate_before_deployment=True)
    validation = result["validation"]
    assert validation is not None
    assert validation["is_valid"]
    model = services.models.get("drawings@production")
    assert str(model["_id"]) == result["registry_model_id"]
    assert (model["version"], model["algorithm"], model["metrics"]) == ("v1.0", "Autoencoder", {"mse": 0.03})
    file = services.files.open_primary(services.files.get_with_file(result["registry_model_id"]))
    assert b"".join(file.read(0, file.size_bytes)) == (exported[0].folder / "source.pt2").read_bytes()
    assert (result["replaced"], result["backups"], result["is_active"]) == ([], [], True)
    assert ModelExportMetadata.from_dict(result["export_metadata"]) == exported[0].metadata
    json.dumps(result)

    (entry,) = deployment.list_deployed_models(db)
    assert entry == {key: value for key, value in result.items() if key in entry}
    assert set(result) - set(entry) == {"replaced", "backups", "validation"}
    assert isinstance(entry["model_id"], int)
    for name in ("age_groups", "integer_counters"):
        for document in database.collection(name).find():
            check_document(name, document)
    assert database.audit.count_documents({"kind": "age_group", "action": "deployed"}) == 1


def test_the_export_of_a_training_job_is_deployed_as_its_own_version(
    exporter: ModelExporter,
    deployment: ModelDeploymentService,
    training_job: Callable[..., str],
    services: Services,
    database: Database,
    db: Session,
) -> None:
    uuid: Any = training_job()
    metadata = exporter.export_model_from_training_job(uuid, 3, 4, "onnx", db)
    (entry,) = exporter.list_exported_models()
    result = deployment.deploy_model(ModelDeploymentConfig(entry["model_export_path"], 3, 4), db)
    assert result["registry_model_id"] == metadata.model_id
    assert services.models.get("drawings@production")["training_job_id"] == uuid
    assert database.models.count_documents({}) == 1
    (integer,) = database.integer_ids.find()
    check_document("integer_ids", integer)

    services.models.delete(metadata.model_id)
    with pytest.raises(ModelDeploymentError, match=metadata.model_id):
        deployment.deploy_model(ModelDeploymentConfig(entry["model_export_path"], 5, 6), db)


def test_one_export_in_several_groups_and_environments_is_one_version(
    deployment: ModelDeploymentService,
    deploy: Callable[..., DeploymentResult],
    exported: list[Exported],
    services: Services,
    database: Database,
    db: Session,
) -> None:
    numbers = [
        deploy(exported[0], 3, 4)["model_id"],
        deploy(exported[0], 4, 5)["model_id"],  # the next group begins where this one ends
        deploy(exported[0], 3, 4, deployment_environment="staging")["model_id"],
    ]
    assert len(set(numbers)) == 3
    assert sorted(services.models.get("drawings/v1.0")["aliases"]) == ["production", "staging"]
    assert database.models.count_documents({}) == 1
    assert deployed(deployment, db) == [
        (numbers[0], "production", 3, 4, "v1.0"),
        (numbers[1], "production", 4, 5, "v1.0"),
        (numbers[2], "staging", 3, 4, "v1.0"),
    ]


@pytest.mark.parametrize(("low", "high"), [(3, 4), (2, 3.1), (3.9, 9), (3.2, 3.3), (0, 18)])
def test_an_overlapping_age_group_is_refused_and_leaves_nothing(
    deployment: ModelDeploymentService,
    deploy: Callable[..., DeploymentResult],
    exported: list[Exported],
    database: Database,
    services: Services,
    db: Session,
    low: float,
    high: float,
) -> None:
    first = deploy(exported[0])
    with pytest.raises(ModelDeploymentError, match=r"overlaps with 3 to 4 .*set replace_existing"):
        deploy(exported[1], low, high)
    assert [entry[0] for entry in deployed(deployment, db)] == [first["model_id"]]
    assert database.models.count_documents({}) == 1
    assert alias(services) == "v1.0"


def test_replace_existing_ends_every_overlapping_group(
    deployment: ModelDeploymentService,
    deploy: Callable[..., DeploymentResult],
    exported: list[Exported],
    services: Services,
    database: Database,
    db: Session,
) -> None:
    first, second = deploy(exported[0], 3, 4)["model_id"], deploy(exported[0], 4, 5)["model_id"]
    other = deploy(exported[0], 7, 8)["model_id"]
    result = deploy(exported[1], 3.5, 4.5, replace_existing=True, backup_existing=False)
    assert result["replaced"] == [first, second]
    assert result["backups"] == []
    assert [entry[0] for entry in deployed(deployment, db)] == [other, result["model_id"]]
    assert alias(services) == "v1.1"
    ended = list(database.age_groups.find({"status": "replaced"}))
    assert {one["replaced_by"] for one in ended} == {result["model_id"]}
    for document in ended:
        check_document("age_groups", document)
    assert deployment.undeploy_model(first, db) is False


def test_backup_existing_keeps_a_copy_that_can_be_deployed(
    deployment: ModelDeploymentService,
    deploy: Callable[..., DeploymentResult],
    exporter: ModelExporter,
    exported: list[Exported],
    export_dir: Path,
    services: Services,
    database: Database,
    db: Session,
) -> None:
    first = deploy(exported[0])["model_id"]
    result = deploy(exported[1], replace_existing=True, backup_existing=True)
    (backup,) = result["backups"]
    assert Path(backup).is_relative_to(export_dir.resolve() / "backups")
    replaced = database.age_groups.find_one({"_id": first})
    assert replaced is not None
    assert replaced["backup_path"] == backup
    check_document("age_groups", replaced)
    assert len(exporter.list_exported_models()) == len(exported)

    shutil.rmtree(exported[0].folder)
    again = deploy(backup, replace_existing=True, validate_before_deployment=True)
    assert again["validation"] is not None
    assert again["model_version"] == "v1.0"  # the same version, and not a third one
    assert alias(services) == "v1.0"
    assert [entry["model_export_path"] for entry in deployment.list_deployed_models(db)] == [backup]


@pytest.mark.parametrize("name", ["package/model.onnx", "source.pt2"])
def test_a_damaged_backup_is_no_backup(
    deployment: ModelDeploymentService,
    deploy: Callable[..., DeploymentResult],
    exported: list[Exported],
    export_dir: Path,
    db: Session,
    name: str,
) -> None:
    first = deploy(exported[0])["model_id"]
    backup = ExportFolder(export_dir).back_up(ExportFolder(export_dir).at(exported[0].path))
    (backup.folder / name).write_bytes(b"damaged")
    with pytest.raises(ModelDeploymentError, match=r"The backup .* is damaged; remove it"):
        deploy(exported[1], replace_existing=True)
    assert [entry[0] for entry in deployed(deployment, db)] == [first]
    shutil.rmtree(backup.folder)
    assert deploy(exported[1], replace_existing=True)["backups"] == [backup.path]


def test_an_export_that_cannot_be_backed_up_is_not_replaced_unless_no_backup_is_asked_for(
    deployment: ModelDeploymentService,
    deploy: Callable[..., DeploymentResult],
    exported: list[Exported],
    export_dir: Path,
    db: Session,
) -> None:
    first = deploy(exported[0])["model_id"]
    content = Path(exported[0].path).read_bytes()
    Path(exported[0].path).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ModelDeploymentError, match=r"cannot be backed up.*backup_existing to False"):
        deploy(exported[1], replace_existing=True)
    assert [entry[0] for entry in deployed(deployment, db)] == [first]
    assert list((export_dir / "backups").iterdir()) == []
    assert deploy(exported[1], replace_existing=True, backup_existing=False)["replaced"] == [first]


def test_validate_before_deployment_stops_a_damaged_export(
    deployment: ModelDeploymentService,
    deploy: Callable[..., DeploymentResult],
    exported: list[Exported],
    database: Database,
    db: Session,
) -> None:
    content = Path(exported[0].path).read_bytes()
    Path(exported[0].path).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ModelValidationError, match="checksum"):
        deploy(exported[0], validate_before_deployment=True)
    assert deployed(deployment, db) == []
    assert database.models.count_documents({}) == 0

    description = exported[1].folder / "export.json"
    found = json.loads(description.read_text())
    found["metadata"]["compatibility_version"] = "9.0"
    description.write_text(json.dumps(found))
    with pytest.raises(ModelCompatibilityError, match=r"9\.0"):
        deploy(exported[1], validate_before_deployment=True)

    assert deploy(exported[0], validate_before_deployment=False)["validation"] is None


def test_the_file_of_a_version_is_the_network_that_was_exported(
    deploy: Callable[..., DeploymentResult], exported: list[Exported], database: Database
) -> None:
    (exported[0].folder / "source.pt2").write_bytes(b"another network")
    with pytest.raises(ModelDeploymentError, match=r"source\.pt2 is missing or was changed"):
        deploy(exported[0])
    assert database.models.count_documents({}) == 0


def test_a_path_outside_the_export_folder_is_refused(
    deploy: Callable[..., DeploymentResult], exported: list[Exported], export_dir: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    shutil.copytree(exported[0].folder, outside)
    inside = exported[0].folder.name
    (export_dir / "link").symlink_to(outside)
    (export_dir / "real").mkdir()
    (export_dir / "real" / "package").symlink_to(outside / "package")
    for path, message in {
        str(outside / "package" / "model.onnx"): "outside the export folder",
        f"{export_dir}/../outside/package/model.onnx": r"contains '\.\.'",
        "../outside/package/model.onnx": r"contains '\.\.'",
        "/etc/passwd": "outside the export folder",
        f"{export_dir}/link/package/model.onnx": "symbolic link",
        f"{export_dir}/real/package/model.onnx": "symbolic link",
        f"{export_dir}/missing/package/model.onnx": "no export at",
        str(export_dir): "outside the export folder",
        f"{inside}/package/golden.npz": "not the file of the model",
        "": "outside the export folder",
        "a\0b": "refused",
    }.items():
        with pytest.raises(ModelDeploymentError, match=message):
            deploy(path)
    Path(exported[1].path).unlink()
    with pytest.raises(ModelDeploymentError, match="is missing"):
        deploy(exported[1])
    Path(exported[1].path).symlink_to("/etc/passwd")
    with pytest.raises(ModelDeploymentError, match="symbolic link"):
        deploy(exported[1])
    assert deploy(f"{inside}/package/model.onnx")["is_active"]  # relative to the folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"age_group_min": 5}, "minimum below the maximum"),
        ({"age_group_max": float("nan")}, "minimum below the maximum"),
        ({"deployment_environment": "a b"}, "alias"),
        ({"deployment_environment": ""}, "alias"),
    ],
)
def test_a_wrong_configuration_is_refused_and_leaves_nothing(
    deployment: ModelDeploymentService,
    exported: list[Exported],
    database: Database,
    db: Session,
    changes: dict[str, Any],
    message: str,
) -> None:
    config = ModelDeploymentConfig(exported[0].path, 3, 4, validate_before_deployment=False)
    with pytest.raises(ModelDeploymentError, match=message):
        deployment.deploy_model(replace(config, **changes), db)
    assert database.models.count_documents({}) == 0
    assert database.deleted_models.count_documents({}) == 0


def test_of_concurrent_deployments_of_one_age_group_exactly_one_succeeds(
    exported: list[Exported],
    export_dir: Path,
    deployment: ModelDeploymentService,
    services: Services,
    servers: Addresses,
    database: Database,
    db: Session,
) -> None:
    together = Barrier(OTHERS)

    def attempt(number: int) -> DeploymentResult | ModelDeploymentError:
        with MongoClient[dict[str, Any]](servers.mongodb_url) as client:
            service = ModelDeploymentService(export_dir, client[database.name])
            service.list_deployed_models(client[database.name])
            path = exported[number % 2].path
            config = ModelDeploymentConfig(path, 3 + number / 10, 5, validate_before_deployment=False)
            together.wait()
            try:
                return service.deploy_model(config, client[database.name])
            except ModelDeploymentError as exc:
                return exc

    with ThreadPoolExecutor(OTHERS) as threads:
        outcomes = list(threads.map(attempt, range(OTHERS)))
    won = [one for one in outcomes if not isinstance(one, ModelDeploymentError)]
    assert len(won) == 1
    assert all("overlaps" in str(one) for one in outcomes if isinstance(one, ModelDeploymentError))
    assert deployment.list_deployed_models(db)[0]["model_id"] == won[0]["model_id"]
    assert database.age_groups.count_documents({}) == 1
    assert database.models.count_documents({}) == 1  # those of the losers are gone
    assert str(services.models.get("drawings@production")["_id"]) == won[0]["registry_model_id"]


def test_concurrent_replacements_leave_one_active_group(
    exported: list[Exported],
    export_dir: Path,
    deployment: ModelDeploymentService,
    deploy: Callable[..., DeploymentResult],
    services: Services,
    db: Session,
) -> None:
    deploy(exported[0], 5, 6), deploy(exported[1], 6, 7)  # both are registered
    together = Barrier(4)

    def attempt(number: int) -> DeploymentResult:
        together.wait()
        return deploy(exported[number % 2], replace_existing=True)

    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(attempt, range(4)))
    active = [entry for entry in deployment.list_deployed_models(db) if entry["age_group_min"] == 3]
    assert len(active) == 1
    assert sorted(number for one in results for number in one["replaced"]) == sorted(
        one["model_id"] for one in results if one["model_id"] != active[0]["model_id"]
    )
    assert alias(services) == active[0]["model_version"]


def test_undeploying_moves_the_alias_to_what_is_still_deployed(
    deployment: ModelDeploymentService,
    deploy: Callable[..., DeploymentResult],
    exported: list[Exported],
    services: Services,
    database: Database,
    db: Session,
) -> None:
    first, second = deploy(exported[0], 3, 4)["model_id"], deploy(exported[1], 4, 5)["model_id"]
    third = deploy(exported[1], 5, 6)["model_id"]
    assert alias(services) == "v1.1"
    assert deployment.undeploy_model(third, db) is True
    assert alias(services) == "v1.1"
    assert deployment.undeploy_model(second, db) is True
    assert alias(services) == "v1.0"
    assert deployment.undeploy_model(first, db) is True
    assert services.models.get("drawings/v1.0").get("aliases", []) == []
    assert deployment.list_deployed_models(db) == []
    assert [deployment.undeploy_model(number, db) for number in (first, 99)] == [False, False]
    for document in database.age_groups.find():
        check_document("age_groups", document)
    assert deploy(exported[0], 3, 4)["model_id"] > third  # an id is not given twice


@pytest.mark.parametrize("gone", ["deleted", "archived"])
def test_undeploying_skips_versions_that_cannot_have_the_alias(
    deployment: ModelDeploymentService,
    deploy: Callable[..., DeploymentResult],
    exported: list[Exported],
    services: Services,
    db: Session,
    gone: str,
) -> None:
    first, second, third = (
        deploy(exported[number], 3 + number, 4 + number)["model_id"] for number in range(3)
    )
    if gone == "deleted":
        services.models.delete("drawings/v1.1")
    else:
        services.models.update("drawings/v1.1", {"status": ModelStatus.ARCHIVED})
    assert deployment.undeploy_model(third, db) is True
    assert alias(services) == "v1.0"
    assert deployment.undeploy_model(first, db) is True
    assert services.models.get("drawings/v1.0").get("aliases", []) == []
    assert [entry[0] for entry in deployed(deployment, db)] == [second]


def test_undeploying_leaves_an_alias_that_was_moved_by_hand(
    deployment: ModelDeploymentService,
    deploy: Callable[..., DeploymentResult],
    exported: list[Exported],
    services: Services,
    db: Session,
) -> None:
    deploy(exported[0], 5, 6)
    number = deploy(exported[1], 3, 4)["model_id"]
    services.aliases.set("drawings/v1.0", "production")
    assert deployment.undeploy_model(number, db) is True
    assert alias(services) == "v1.0"


def test_concurrent_first_deployments_of_one_export_use_one_version(
    deploy: Callable[..., DeploymentResult],
    exported: list[Exported],
    services: Services,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    together = Barrier(2)

    def register_together(registry: OpenRegistry, export: Export) -> tuple[Model, bool]:
        together.wait()
        return register(registry, export)

    monkeypatch.setattr(deployments_module, "register", register_together)
    with ThreadPoolExecutor(2) as threads:
        results = list(threads.map(lambda low: deploy(exported[0], low, low + 1), (3, 4)))
    assert {one["model_version"] for one in results} == {"v1.0"}
    assert database.models.count_documents({}) == 1
    assert len(services.models.get("drawings/v1.0")["files"]) == 1


@pytest.mark.parametrize("before_the_file", [True, False])
def test_the_version_of_a_deployment_that_was_killed_is_used_by_the_next_one(
    deploy: Callable[..., DeploymentResult],
    exported: list[Exported],
    export_dir: Path,
    services: Services,
    database: Database,
    db: Session,
    before_the_file: bool,
) -> None:
    registry, export = Registries(None).of(db), ExportFolder(export_dir).at(exported[0].path)

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    if before_the_file:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(HeldFiles, "store", killed)
            patch.setattr(registration_module, "discard", lambda *_: None)  # a killed process removes nothing
            with pytest.raises(KeyboardInterrupt):
                register(registry, export)
    else:
        register(registry, export)
    assert database.models.count_documents({}) == 1

    assert deploy(exported[0])["model_version"] == "v1.0"
    assert database.models.count_documents({}) == 1
    (file,) = services.models.get("drawings/v1.0")["files"]
    assert file["checksum"] == f"sha256:{export.source_sha256}"


def test_a_version_that_a_failed_deployment_removes_is_registered_again(
    deploy: Callable[..., DeploymentResult],
    exported: list[Exported],
    services: Services,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two deployments share a new version, and the one that created it fails and removes it."""

    def register_twice(registry: OpenRegistry, export: Export) -> tuple[Model, bool]:
        monkeypatch.setattr(deployments_module, "register", register)
        of_other, is_new = register(registry, export)
        assert is_new
        shared = register(registry, export)
        assert shared == (of_other, False)
        discard(registry, export, of_other)
        return shared

    monkeypatch.setattr(deployments_module, "register", register_twice)
    assert deploy(exported[0])["model_version"] == alias(services) == "v1.1"
    assert database.models.count_documents({}) == 1
    assert database.deleted_models.count_documents({}) == 0


def test_of_several_versions_of_an_export_the_newest_active_one_is_deployed(
    deploy: Callable[..., DeploymentResult],
    exported: list[Exported],
    export_dir: Path,
    services: Services,
    db: Session,
) -> None:
    deploy(exported[0], 3, 4)
    services.models.delete("drawings/v1.0")
    assert deploy(exported[0], 4, 5)["model_version"] == "v1.1"
    assert deploy(exported[0], 5, 6)["model_version"] == "v1.1"

    export = ExportFolder(export_dir).at(exported[0].path)
    discard(Registries(None).of(db), export, services.models.get("drawings/v1.1"))
    assert alias(services) == "v1.1"

    services.trash.restore("drawings/v1.0")
    services.models.update("drawings/v1.1", {"status": ModelStatus.ARCHIVED})
    assert deploy(exported[0], 6, 7)["model_version"] == alias(services) == "v1.0"


def test_the_version_of_a_committed_deployment_is_not_removed(
    deploy: Callable[..., DeploymentResult],
    exported: list[Exported],
    export_dir: Path,
    services: Services,
    db: Session,
) -> None:
    """An error after the commit, such as a lost connection, must not remove what is deployed."""
    registry, folder = Registries(None).of(db), ExportFolder(export_dir)
    deploy(exported[0])
    discard(registry, folder.at(exported[0].path), services.models.get("drawings/v1.0"))
    assert alias(services) == "v1.0"
    unused = folder.at(exported[1].path)
    version, is_new = register(registry, unused)
    assert is_new
    discard(registry, unused, version)
    with pytest.raises(NotFound):
        services.models.get("drawings/v1.1")


def test_an_alias_that_the_registry_refuses_deploys_nothing(
    deployment: ModelDeploymentService,
    deploy: Callable[..., DeploymentResult],
    exported: list[Exported],
    services: Services,
    db: Session,
) -> None:
    number = deploy(exported[0])["model_id"]
    assert deployment.undeploy_model(number, db)
    services.models.update("drawings/v1.0", {"status": ModelStatus.ARCHIVED})
    with pytest.raises(ModelDeploymentError, match="is archived") as raised:
        deploy(exported[0])
    assert isinstance(raised.value.__cause__, Conflict)
    assert deployment.list_deployed_models(db) == []


def test_a_gate_of_the_environment_applies(
    deployment: ModelDeploymentService,
    deploy: Callable[..., DeploymentResult],
    exported: list[Exported],
    services: Services,
    database: Database,
    db: Session,
) -> None:
    first = deploy(exported[0], 3, 4)["model_id"]
    second = deploy(exported[1], 4, 5)["model_id"]
    needs_export: Any = {
        "verified_export": {"format": "onnx", "validated": False},
        "metrics": [],
        "max_p99_ms": None,
        "approvals": 0,
    }
    services.gates.set("drawings", "production", needs_export)
    with pytest.raises(ModelDeploymentError, match="does not pass the gate of 'production'") as raised:
        deploy(exported[2], 5, 6)
    assert isinstance(raised.value.__cause__, GateRefused)
    assert database.models.count_documents({}) == 2
    assert [entry[0] for entry in deployed(deployment, db)] == [first, second]
    assert deploy(exported[2], 5, 6, deployment_environment="staging")["model_version"] == "v1.3"

    assert deployment.undeploy_model(second, db) is True  # its gate does not let the alias go back to v1.0
    assert first in {entry[0] for entry in deployed(deployment, db)}
    assert services.models.get("drawings/v1.0").get("aliases", []) == []
    assert services.models.get("drawings/v1.1").get("aliases", []) == []


def test_a_database_that_cannot_be_used_is_an_error_of_deployment(
    deployment: ModelDeploymentService, exported: list[Exported]
) -> None:
    with MongoClient[dict[str, Any]]("mongodb://127.0.0.1:9", serverSelectionTimeoutMS=200) as client:
        with pytest.raises(ModelDeploymentError, match=r"127\.0\.0\.1:9|given"):
            deployment.list_deployed_models(client["x"])
        config = ModelDeploymentConfig(exported[0].path, 3, 4, validate_before_deployment=False)
        with pytest.raises(ModelDeploymentError, match=r"127\.0\.0\.1:9|given"):
            deployment.deploy_model(config, client["x"])
