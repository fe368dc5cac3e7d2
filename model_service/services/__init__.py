"""The business rules of the service, without HTTP and without database drivers."""

from contextlib import suppress
from dataclasses import dataclass

from model_service.config import Settings, Unreachable
from model_service.deployers import build_deployers
from model_service.jobs.build_package import build_package
from model_service.jobs.queue import PACKAGE_BUILDS, Queue
from model_service.services.access.audit import AuditService
from model_service.services.access.keys import KeyService
from model_service.services.access.principals import Principals, Remembered
from model_service.services.access.sessions import SessionService
from model_service.services.access.users import UserService
from model_service.services.archive.archive import ArchiveService
from model_service.services.common.idempotency import Idempotency
from model_service.services.common.signing import Signing
from model_service.services.common.suggestions import Suggestions
from model_service.services.datasets.data_files import DataFiles
from model_service.services.datasets.datasets import DatasetService
from model_service.services.deployments.changes import DeploymentChanges
from model_service.services.deployments.deployments import DeploymentService
from model_service.services.deployments.downloads import PackageDownloads
from model_service.services.deployments.keys import DeploymentKeyService
from model_service.services.deployments.kinds import PackagePlans, Plans
from model_service.services.deployments.limits import DeploymentLimits
from model_service.services.deployments.plans import DeploymentPlans
from model_service.services.deployments.usage import UsageService
from model_service.services.evaluations.evaluations import EvaluationService
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
from model_service.services.gates.approvals import ApprovalService
from model_service.services.gates.gates import GateService
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
from model_service.services.webhooks.deliveries import DeliveryService
from model_service.services.webhooks.webhooks import WebhookService
from model_service.storage.blobs.disk_space import DiskSpace
from model_service.storage.common.shared_redis import check_redis
from model_service.storage.datasets.documents import Dataset
from model_service.storage.migrations import prepare_database
from model_service.storage.models.documents import Model
from model_service.storage.stores import Stores
from model_service.tiers import Tiers


@dataclass(frozen=True)
class Services:
    models: ModelService
    trash: TrashService
    aliases: AliasService
    gates: GateService
    approvals: ApprovalService
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
    evaluations: EvaluationService
    deployments: DeploymentService
    deployment_changes: DeploymentChanges
    deployment_keys: DeploymentKeyService
    package_downloads: PackageDownloads
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
    webhooks: WebhookService
    deliveries: DeliveryService


@dataclass(frozen=True)
class Registry:
    """The services of models, which need no Redis."""

    idempotency: Idempotency
    suggestions: Suggestions
    origins: Origins
    models: ModelService
    gates: GateService
    aliases: AliasService
    holder: ModelHolder
    files: HeldFiles[Model]


def check_dependencies(settings: Settings) -> None:
    """Check the settings and the services that they name. Redis may be unreachable.

    Raises:
        SettingsError: MongoDB is unreachable or unusable, Redis rejects us, or the tiers file is invalid.
    """
    Tiers.read(settings)
    prepare_database(settings)
    with suppress(Unreachable):
        check_redis(settings)


def build_registry(settings: Settings, stores: Stores) -> Registry:
    """Build the services of models on the stores of this process."""
    idempotency = Idempotency(stores.idempotency_keys)
    suggestions = Suggestions({"model": stores.models, "dataset": stores.datasets}, stores.deployments)
    origins = Origins(stores, suggestions)
    models = ModelService(stores, NewVersions(stores, origins), idempotency, origins, suggestions)
    gates = GateService(stores, models, origins)
    holder = ModelHolder(stores, models)
    return Registry(
        idempotency=idempotency,
        suggestions=suggestions,
        origins=origins,
        models=models,
        gates=gates,
        aliases=AliasService(stores, models, gates),
        holder=holder,
        files=HeldFiles(stores, holder, max_file_size=settings.max_file_size),
    )


def build_services(settings: Settings, stores: Stores) -> Services:
    """Build all services on the stores of this process."""
    secret = settings.signing_secret
    signing = Signing(stores.secrets, secret.get_secret_value() if secret else None)
    registry = build_registry(settings, stores)
    idempotency, suggestions, origins = registry.idempotency, registry.suggestions, registry.origins
    models, aliases, files = registry.models, registry.aliases, registry.files
    queue, tiers = Queue(settings, stores.secrets), Tiers.read(settings)
    disk = DiskSpace(settings, stores.database)

    trash, dataset_holder = TrashService(stores), DatasetHolder(stores, origins)

    toolchains, data_files = Toolchains(stores.workers), DataFiles(origins)
    exports = ExportService(
        stores,
        models,
        files,
        origins,
        queue=queue,
        limits=ExportLimits(stores.export_quotas, tiers),
        toolchains=toolchains,
        idempotency=idempotency,
        signing=signing,
        data_files=data_files,
    )
    plans = Plans(DeploymentPlans(exports, stores.users, tiers), PackagePlans(exports))
    limits = DeploymentLimits(stores, tiers)
    deployments = DeploymentService(
        stores,
        build_deployers(
            settings, stores, lambda job_id: queue.enqueue(PACKAGE_BUILDS, build_package, job_id)
        ),
        plans,
        limits,
        idempotency=idempotency,
        signing=signing,
        suggestions=suggestions,
    )

    remembered = Remembered()  # the authenticated callers, which users, keys and sessions share
    sessions = SessionService(stores, signing, settings.session_s)
    keys = KeyService(stores, idempotency, signing, remembered.forget)
    webhooks = WebhookService(settings, stores, idempotency)
    root_key = settings.api_key.get_secret_value() if settings.api_key else None
    return Services(
        models=models,
        trash=trash,
        aliases=aliases,
        gates=registry.gates,
        approvals=ApprovalService(stores, models),
        batch=BatchService(models, aliases, trash),
        lineage=LineageService(models, stores.lineage, origins),
        comparison=ComparisonService(models),
        files=files,
        deleted_files=DeletedFiles(stores, registry.holder),
        part_uploads=PartUploadService(stores, files, idempotency, expires_s=settings.upload_expires_s),
        exports=exports,
        export_changes=ExportChanges(stores, exports),
        export_callbacks=ExportCallbacks(
            stores,
            lease_s=settings.export_timeout_s,
            max_attempts=settings.job_max_attempts,
            max_package_bytes=settings.export_disk,
        ),
        export_events=ExportEvents(stores.exports, exports),
        capabilities=CapabilityService(toolchains),
        evaluations=EvaluationService(
            stores, models, files, origins, exports, data_files, queue=queue, idempotency=idempotency
        ),
        deployments=deployments,
        deployment_changes=DeploymentChanges(stores, plans, limits, idempotency, deployments),
        deployment_keys=DeploymentKeyService(stores, idempotency, signing, deployments.get),
        package_downloads=PackageDownloads(stores, deployments),
        usage=UsageService(stores, deployments, tiers),
        disk=disk,
        health=HealthService(settings, stores, queue, disk),
        statistics=StatisticsService(stores.counters, stores.downloads),
        signing=signing,
        archive=ArchiveService(stores, settings.home / "work"),
        integrity=IntegrityService(stores),
        training_jobs=TrainingJobService(stores, origins, idempotency),
        datasets=DatasetService(stores, origins, idempotency),
        dataset_files=HeldFiles(stores, dataset_holder, max_file_size=settings.max_file_size),
        deleted_dataset_files=DeletedFiles(stores, dataset_holder),
        search=SearchService(stores.model_search, models),
        principals=Principals(root_key, keys, sessions, remembered),
        users=UserService(stores, idempotency, remembered.forget),
        sessions=sessions,
        keys=keys,
        namespaces=NamespaceService(stores.namespaces),
        audit=AuditService(stores.audit),
        webhooks=webhooks,
        deliveries=DeliveryService(settings, stores, webhooks),
    )
