"""The rules, with no HTTP and no driver in them."""

from dataclasses import dataclass

from model_service.config import Settings
from model_service.jobs.queue import Queue
from model_service.services.deployments import DeploymentService
from model_service.services.exports import ExportService
from model_service.services.health import HealthService
from model_service.services.models import ModelService
from model_service.storage.blobs import Blobs
from model_service.storage.db import Database, check_database
from model_service.storage.deployments import Deployments
from model_service.storage.exports import Exports
from model_service.storage.models import Models


@dataclass(frozen=True)
class Services:
    models: ModelService
    exports: ExportService
    deployments: DeploymentService
    health: HealthService


def check_dependencies(settings: Settings) -> None:
    """Raises: SettingsError: MongoDB is away or not usable, or REDIS_URL is no address. Redis may be away."""
    check_database(settings)
    Queue(settings)


def build_services(settings: Settings, database: Database) -> Services:
    """Put the services together over one connection."""
    blobs = Blobs(database)
    stored_models = Models(database)
    queue = Queue(settings)
    models = ModelService(database, stored_models, blobs, max_file_size=settings.max_file_size)
    exports = ExportService(database, Exports(database), blobs, models, queue)
    deployments = DeploymentService(settings, database, Deployments(database), blobs, exports)
    health = HealthService(database, stored_models, blobs, queue)
    return Services(models, exports, deployments, health)
