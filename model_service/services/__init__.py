"""The business rules of the service, without HTTP and without database drivers."""

from contextlib import suppress
from dataclasses import dataclass

from model_service.config import Settings, Unreachable
from model_service.jobs.queue import Queue
from model_service.services.access.audit import AuditService
from model_service.services.access.keys import KeyService
from model_service.services.access.principals import Principals, Remembered
from model_service.services.access.sessions import SessionService
from model_service.services.access.users import UserService
from model_service.services.archive.archive import ArchiveService
from model_service.services.common.idempotency import Idempotency
from model_service.services.common.signing import Signing
from model_service.services.common.suggestions import Suggestions
from model_service.services.datasets.datasets import DatasetService
from model_service.services.deployments.changes import DeploymentChanges
from model_service.services.deployments.deployments import DeploymentService
from model_service.services.deployments.keys import DeploymentKeyService
from model_service.services.deployments.limits import DeploymentLimits
from model_service.services.deployments.plans import DeploymentPlans
from model_service.services.deployments.usage import UsageService
from model_service.services.exports.callbacks import ExportCallbacks
from model_service.services.exports.capabilities import CapabilityService
from model_service.services.exports.changes import ExportChanges
from model_service.services.exports.events import ExportEvents
from model_service.services.exports.exports import ExportService
from model_service.services.exports.limits import ExportLimits
from model_service.services.exports.toolchains import Toolchains
from model_service.services.files.deleted import DeletedFiles
from model_service.services.files.held import HeldFiles
from model_service.services.files.holders import DatasetHolder, ModelHolder
from model_service.services.files.part_uploads import PartUploadService
from model_service.services.models.aliases import AliasService
from model_service.services.models.batch import BatchService
from model_service.services.models.comparison import ComparisonService
from model_service.services.models.lineage import LineageService
from model_service.services.models.models import ModelService
from model_service.services.models.namespaces import NamespaceService
from model_service.services.models.origins import Origins
from model_service.services.models.search import SearchService
from model_service.services.models.statistics import StatisticsService
from model_service.services.models.trash import TrashService
from model_service.services.models.versions import NewVersions
from model_service.services.operations.health import HealthService
from model_service.services.operations.integrity import IntegrityService
from model_service.services.training.jobs import TrainingJobService
from model_service.storage.access.keys import AccessKeys
from model_service.storage.access.revoked_sessions import RevokedSessions
from model_service.storage.access.users import Users
from model_service.storage.blobs.blobs import Blobs
from model_service.storage.blobs.disk_cache import DiskCache
from model_service.storage.blobs.disk_space import DiskSpace
from model_service.storage.blobs.part_uploads import PartUploads
from model_service.storage.common.audit import Audit
from model_service.storage.common.db import Database
from model_service.storage.common.idempotency import IdempotencyKeys
from model_service.storage.common.secrets import Secrets
from model_service.storage.common.shared_redis import check_redis
from model_service.storage.datasets.datasets import Datasets
from model_service.storage.datasets.documents import Dataset
from model_service.storage.deployments.deployments import Deployments
from model_service.storage.deployments.quotas import DeploymentQuotas
from model_service.storage.deployments.usage import UsageCounts
from model_service.storage.exports.exports import Exports
from model_service.storage.exports.quotas import ExportQuotas
from model_service.storage.migrations import prepare_database
from model_service.storage.models.creations import Creations
from model_service.storage.models.dependents import Dependents
from model_service.storage.models.documents import Model
from model_service.storage.models.hot_models import HotModels
from model_service.storage.models.lineage import Lineage
from model_service.storage.models.model_search import ModelSearch
from model_service.storage.models.models import Models
from model_service.storage.models.namespaces import Namespaces
from model_service.storage.models.trash import Trash
from model_service.storage.operations.workers import Workers
from model_service.storage.statistics.counters import Counters
from model_service.storage.training.jobs import TrainingJobs
from model_service.tiers import Tiers


@dataclass(frozen=True)
class Services:
    models: ModelService
    trash: TrashService
    aliases: AliasService
    batch: BatchService
    lineage: LineageService
    comparison: ComparisonService
    files: HeldFiles[Model]
    deleted_files: DeletedFiles[Model]
    part_uploads: PartUploadService
    exports: ExportService
    export_changes: ExportChanges
    export_callbacks: ExportCallbacks
    export_events: ExportEvents
    capabilities: CapabilityService
    deployments: DeploymentService
    deployment_changes: DeploymentChanges
    deployment_keys: DeploymentKeyService
    usage: UsageService
    disk: DiskSpace
    health: HealthService
    statistics: StatisticsService
    signing: Signing
    archive: ArchiveService
    integrity: IntegrityService
    training_jobs: TrainingJobService
    datasets: DatasetService
    dataset_files: HeldFiles[Dataset]
    deleted_dataset_files: DeletedFiles[Dataset]
    search: SearchService
    principals: Principals
    users: UserService
    sessions: SessionService
    keys: KeyService
    namespaces: NamespaceService
    audit: AuditService


def check_dependencies(settings: Settings) -> None:
    """Check the settings and the services that they name. Redis may be unreachable.

    Raises:
        SettingsError: MongoDB is unreachable or unusable, Redis rejects us, or the tiers file is invalid.
    """
    Tiers.read(settings)
    prepare_database(settings)
    with suppress(Unreachable):
        check_redis(settings)


def build_services(settings: Settings, database: Database) -> Services:
    """Build all services on one database connection."""
    blobs = Blobs(database, DiskCache(settings.cache, settings.cache_max_bytes))
    stored_models = Models(database, HotModels(settings, database))
    stored_trash = Trash(database, stored_models, blobs)
    idempotency = Idempotency(IdempotencyKeys(database))
    stored_jobs, stored_datasets = TrainingJobs(database), Datasets(database)
    stored_deployments = Deployments(database)
    suggestions = Suggestions({"model": stored_models, "dataset": stored_datasets}, stored_deployments)
    origins = Origins(stored_jobs, stored_datasets, suggestions)
    queue, tiers = Queue(settings, database), Tiers.read(settings)
    versions = NewVersions(database, stored_models, Creations(database), blobs, origins)
    models = ModelService(database, stored_models, versions, stored_trash, idempotency, origins, suggestions)
    dependents = Dependents(database)
    model_holder = ModelHolder(models, stored_models, dependents)
    dataset_holder = DatasetHolder(origins, stored_datasets, dependents)
    files, dataset_files = (
        HeldFiles(database, holder, blobs, max_file_size=settings.max_file_size)
        for holder in (model_holder, dataset_holder)
    )
    trash = TrashService(database, stored_models, stored_trash)
    aliases = AliasService(database, stored_models, models)
    secret = settings.signing_secret
    signing = Signing(Secrets(database), secret.get_secret_value() if secret else None)
    stored_exports, toolchains = Exports(database), Toolchains(Workers(database))
    exports = ExportService(
        database,
        stored_exports,
        blobs,
        models,
        files,
        origins,
        idempotency,
        queue,
        limits=ExportLimits(ExportQuotas(database), tiers),
        toolchains=toolchains,
        signing=signing,
    )
    deployments, deployment_changes, deployment_keys, usage = _build_deployments(
        settings, database, stored_deployments, exports, tiers, idempotency, signing, suggestions
    )
    counters, disk = Counters(database), DiskSpace(settings, database)
    principals, users, sessions, keys = _build_access(settings, database, idempotency, signing)
    return Services(
        models=models,
        trash=trash,
        aliases=aliases,
        batch=BatchService(models, aliases, trash),
        lineage=LineageService(models, Lineage(database), origins),
        comparison=ComparisonService(models),
        files=files,
        deleted_files=DeletedFiles(database, model_holder, blobs),
        part_uploads=PartUploadService(
            database,
            PartUploads(database, blobs.chunks),
            blobs,
            files,
            idempotency,
            expires_s=settings.upload_expires_s,
        ),
        exports=exports,
        export_changes=ExportChanges(database, stored_exports, blobs, exports),
        export_callbacks=ExportCallbacks(
            database,
            stored_exports,
            blobs,
            lease_s=settings.export_timeout_s,
            max_attempts=settings.job_max_attempts,
            max_package_bytes=settings.export_disk,
        ),
        export_events=ExportEvents(stored_exports, exports),
        capabilities=CapabilityService(toolchains),
        deployments=deployments,
        deployment_changes=deployment_changes,
        deployment_keys=deployment_keys,
        usage=usage,
        disk=disk,
        health=HealthService(settings, database, stored_models, blobs, queue, counters, disk),
        statistics=StatisticsService(counters, stored_models.downloads),
        signing=signing,
        archive=ArchiveService(database, blobs, counters, settings.home / "work"),
        integrity=IntegrityService(database, blobs, counters),
        training_jobs=TrainingJobService(database, stored_jobs, origins, idempotency),
        datasets=DatasetService(database, stored_datasets, origins, blobs, idempotency),
        dataset_files=dataset_files,
        deleted_dataset_files=DeletedFiles(database, dataset_holder, blobs),
        search=SearchService(ModelSearch(database), models),
        principals=principals,
        users=users,
        sessions=sessions,
        keys=keys,
        namespaces=NamespaceService(Namespaces(database)),
        audit=AuditService(Audit(database)),
    )


def _build_deployments(
    settings: Settings,
    database: Database,
    stored: Deployments,
    exports: ExportService,
    tiers: Tiers,
    idempotency: Idempotency,
    signing: Signing,
    suggestions: Suggestions,
) -> tuple[DeploymentService, DeploymentChanges, DeploymentKeyService, UsageService]:
    """Build the services of deployments, endpoint keys and usage."""
    users = Users(database)
    plans = DeploymentPlans(exports, users, tiers)
    limits = DeploymentLimits(DeploymentQuotas(database), users, tiers)
    deployments = DeploymentService(
        settings, database, stored, plans, limits, idempotency, signing, suggestions
    )
    changes = DeploymentChanges(database, stored, plans, limits, idempotency, deployments)
    keys = DeploymentKeyService(database, stored, idempotency, signing, deployments.get)
    return deployments, changes, keys, UsageService(deployments, UsageCounts(database), users, tiers)


def _build_access(
    settings: Settings, database: Database, idempotency: Idempotency, signing: Signing
) -> tuple[Principals, UserService, SessionService, KeyService]:
    """Build the services of authentication, users and keys. They share one cache of authenticated callers."""
    stored_users, stored_keys, remembered = Users(database), AccessKeys(database), Remembered()
    users = UserService(database, stored_users, stored_keys, idempotency, remembered.forget)
    sessions = SessionService(stored_users, RevokedSessions(database), signing, settings.session_s)
    keys = KeyService(database, stored_keys, stored_users, idempotency, signing, remembered.forget)
    root_key = settings.api_key.get_secret_value() if settings.api_key else None
    return Principals(root_key, keys, sessions, remembered), users, sessions, keys
