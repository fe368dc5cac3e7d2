"""The composition root of storage: every store is built here, once for each connection.

The API, the worker, the serving process and an operator's command call ``build_stores``. Services and jobs
receive the stores and build none; ``tests/test_architecture.py`` checks this.
"""

from dataclasses import dataclass

from model_service.config import Settings
from model_service.storage.access.keys import AccessKeys
from model_service.storage.access.makers import Makers
from model_service.storage.access.revoked_sessions import RevokedSessions
from model_service.storage.access.users import Users
from model_service.storage.age_groups.age_groups import AgeGroups
from model_service.storage.age_groups.integer_ids import IntegerIds
from model_service.storage.blobs.blobs import Blobs
from model_service.storage.blobs.chunks import Chunks
from model_service.storage.blobs.disk_cache import DiskCache
from model_service.storage.blobs.part_uploads import PartUploads
from model_service.storage.blobs.removed_files import RemovedFiles
from model_service.storage.blobs.scans import Scans
from model_service.storage.common.audit import Audit
from model_service.storage.common.db import Database
from model_service.storage.common.idempotency import IdempotencyKeys
from model_service.storage.common.leases import Leases
from model_service.storage.common.outbox import Outbox
from model_service.storage.common.secrets import Secrets
from model_service.storage.datasets.datasets import Datasets
from model_service.storage.datasets.inspections import Inspections
from model_service.storage.deployments.deployments import Deployments
from model_service.storage.deployments.history import DeploymentHistory
from model_service.storage.deployments.keys import DeploymentKeys
from model_service.storage.deployments.logs import DeploymentLogs
from model_service.storage.deployments.package_builds import PackageBuilds, PackageBuildTurns
from model_service.storage.deployments.quotas import DeploymentQuotas
from model_service.storage.deployments.served import ServedDeployments
from model_service.storage.deployments.serving_reports import ServingReports
from model_service.storage.deployments.usage import UsageCounts
from model_service.storage.evaluations.evaluations import Evaluations
from model_service.storage.evaluations.turns import EvaluationTurns
from model_service.storage.exports.exports import Exports
from model_service.storage.exports.quotas import ExportQuotas
from model_service.storage.exports.turns import ExportTurns
from model_service.storage.gates.approvals import Approvals
from model_service.storage.gates.gates import Gates
from model_service.storage.models.creations import Creations
from model_service.storage.models.dependents import Dependents
from model_service.storage.models.lineage import Lineage
from model_service.storage.models.model_search import ModelSearch
from model_service.storage.models.models import Models
from model_service.storage.models.namespaces import Namespaces
from model_service.storage.models.trash import Trash
from model_service.storage.operations.archive import ArchiveStore
from model_service.storage.operations.inference_servers import InferenceServers
from model_service.storage.operations.integrity import Integrity
from model_service.storage.operations.maintenance import Maintenance
from model_service.storage.operations.workers import Workers
from model_service.storage.statistics.counters import Counters
from model_service.storage.statistics.downloads import Downloads
from model_service.storage.training.jobs import TrainingJobs
from model_service.storage.versioned.version_numbers import VersionNumbers
from model_service.storage.webhooks.deliveries import Deliveries
from model_service.storage.webhooks.webhooks import Webhooks


@dataclass(frozen=True)
class Stores:
    """The stores of one process. ``database`` is their connection, for transactions over several stores."""

    database: Database
    audit: Audit
    outbox: Outbox
    idempotency_keys: IdempotencyKeys
    leases: Leases
    secrets: Secrets

    users: Users
    access_keys: AccessKeys
    makers: Makers
    revoked_sessions: RevokedSessions

    counters: Counters
    downloads: Downloads

    blobs: Blobs
    part_uploads: PartUploads
    removed_files: RemovedFiles
    scans: Scans

    models: Models
    creations: Creations
    trash: Trash
    model_search: ModelSearch
    lineage: Lineage
    dependents: Dependents
    namespaces: Namespaces
    datasets: Datasets
    inspections: Inspections
    training_jobs: TrainingJobs
    age_groups: AgeGroups
    integer_ids: IntegerIds

    gates: Gates
    approvals: Approvals

    webhooks: Webhooks
    deliveries: Deliveries

    exports: Exports
    export_turns: ExportTurns
    export_quotas: ExportQuotas

    evaluations: Evaluations
    evaluation_turns: EvaluationTurns

    deployments: Deployments
    deployment_keys: DeploymentKeys
    deployment_history: DeploymentHistory
    deployment_logs: DeploymentLogs
    deployment_quotas: DeploymentQuotas
    package_builds: PackageBuilds
    package_build_turns: PackageBuildTurns
    served_deployments: ServedDeployments
    serving_reports: ServingReports
    usage: UsageCounts

    archive: ArchiveStore
    integrity: Integrity
    maintenance: Maintenance
    workers: Workers
    inference_servers: InferenceServers


def build_stores(database: Database, settings: Settings | None = None) -> Stores:
    """Build all stores on one connection; none of them reads or writes yet.

    Args:
        settings: of the caches of models and files. None: without them, for a process that changes no model
            and sends no file.
    """
    secrets, hot, cache = Secrets(database), None, None
    if settings is not None:
        # It imports redis, which a serving process should not wait for when it starts.
        from model_service.storage.models.hot_models import HotModels

        hot = HotModels(settings, secrets)
        cache = DiskCache(settings.cache, settings.cache_max_bytes)
    audit, outbox = Audit(database), Outbox(database)
    downloads, chunks = Downloads(database), Chunks(database)
    scans, numbers = Scans(database), VersionNumbers(database)
    counters = Counters(database, downloads)
    blobs = Blobs(database, chunks, counters, cache)
    removed_files = RemovedFiles(database, blobs)
    models = Models(database, audit, numbers, counters, downloads, scans, outbox, hot)
    keys, logs = DeploymentKeys(database), DeploymentLogs(database)
    history = DeploymentHistory(database, outbox)
    integer_ids = IntegerIds(database)
    users, access_keys = Users(database), AccessKeys(database)
    deployments = Deployments(database, blobs, audit, keys, history)
    reports = ServingReports(database, deployments, history, logs)
    return Stores(
        database=database,
        audit=audit,
        outbox=outbox,
        idempotency_keys=IdempotencyKeys(database),
        leases=Leases(database),
        secrets=secrets,
        users=users,
        access_keys=access_keys,
        makers=Makers(users, access_keys),
        revoked_sessions=RevokedSessions(database),
        counters=counters,
        downloads=downloads,
        blobs=blobs,
        part_uploads=PartUploads(database, chunks),
        removed_files=removed_files,
        scans=scans,
        models=models,
        creations=Creations(database, audit, numbers, counters, outbox),
        trash=Trash(database, models, blobs, removed_files, audit, outbox),
        model_search=ModelSearch(database),
        lineage=Lineage(database),
        dependents=Dependents(database),
        namespaces=Namespaces(database),
        datasets=Datasets(database, audit, numbers),
        inspections=Inspections(database),
        training_jobs=TrainingJobs(database, audit),
        gates=Gates(database, audit),
        approvals=Approvals(database, audit),
        webhooks=Webhooks(database, audit, secrets),
        deliveries=Deliveries(database),
        age_groups=AgeGroups(database, integer_ids),
        integer_ids=integer_ids,
        exports=Exports(database, outbox),
        export_turns=ExportTurns(database, outbox),
        export_quotas=ExportQuotas(database),
        evaluations=Evaluations(database, outbox),
        evaluation_turns=EvaluationTurns(database, outbox),
        deployments=deployments,
        deployment_keys=keys,
        deployment_history=history,
        deployment_logs=logs,
        deployment_quotas=DeploymentQuotas(database),
        package_builds=PackageBuilds(database, blobs, reports),
        package_build_turns=PackageBuildTurns(database),
        served_deployments=ServedDeployments(database),
        serving_reports=reports,
        usage=UsageCounts(database),
        archive=ArchiveStore(database, numbers),
        integrity=Integrity(database),
        maintenance=Maintenance(database),
        workers=Workers(database),
        inference_servers=InferenceServers(database),
    )
