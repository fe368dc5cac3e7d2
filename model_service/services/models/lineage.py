"""Lineage: ancestors and descendants of a model, its training job and its datasets."""

from typing_extensions import TypedDict

from model_service.actor import actor, may_read
from model_service.errors import NotFound
from model_service.services.models.models import ModelService
from model_service.services.models.origins import DatasetRole, DescribedDataset, Origins
from model_service.storage.models.documents import Model
from model_service.storage.models.lineage import Lineage
from model_service.storage.training.documents import TrainingJob

MAX_ANCESTORS = 1000
# Each generation of descendants takes one query.
MAX_GENERATIONS = 100


class Relative(Model):
    """A model of a lineage; ``depth`` 0 is the model itself, 1 a parent or a child."""

    depth: int


class Origin(TypedDict):
    training_job_id: str | None
    training_job: TrainingJob | None
    datasets: list[DescribedDataset]


class Family(Origin):
    model: Relative
    ancestors: list[Relative]
    descendants: list[Relative]
    truncated: bool


class LineageService:
    def __init__(self, models: ModelService, lineage: Lineage, origins: Origins) -> None:
        self._models = models
        self._lineage = lineage
        self._origins = origins

    def of(self, reference: str, limit: int) -> Family:
        """Return the model, its ancestors and up to ``limit`` descendants, nearest first.

        Each has its ``depth``; 1 is a parent or a child. The result includes the model's training job, and
        the datasets of both. Documents that the caller may not read are left out, with their descendants.

        Raises:
            MalformedId, NotFound.
        """
        model = self._models.get(reference)
        ancestors: list[Relative] = [
            {**ancestor, "depth": depth}
            for depth, ancestor in enumerate(self._lineage.ancestors(model, MAX_ANCESTORS), start=1)
            if may_read(ancestor["name"])
        ]
        descendants, truncated = self._descendants(model, limit)
        return {
            "model": {**model, "depth": 0},
            "ancestors": ancestors,
            "descendants": descendants,
            "truncated": truncated,
            **self._origin(model),
        }

    def _origin(self, model: Model) -> Origin:
        datasets: list[DatasetRole] = [
            {"dataset_id": dataset_id, "role": None} for dataset_id in model.get("dataset_ids", ())
        ]
        job: TrainingJob | None = None
        if (job_id := model.get("training_job_id")) is not None:
            try:
                job = self._origins.training_job(job_id)
            except NotFound:
                pass
            else:
                datasets += [{**used} for used in job["datasets"]]
        return {
            "training_job_id": job["_id"] if job is not None else None,
            "training_job": job,
            "datasets": self._origins.described(datasets),
        }

    def _descendants(self, model: Model, limit: int) -> tuple[list[Relative], bool]:
        found: list[Relative] = []
        generation = [model]
        for depth in range(1, MAX_GENERATIONS + 1):
            room = limit - len(found)
            parents = [parent["_id"] for parent in generation]
            generation = self._lineage.children(parents, actor().readable_namespaces(), room + 1)
            found += [{**child, "depth": depth} for child in generation[:room]]
            if len(generation) > room:
                return found, True
            if not generation:
                return found, False
        return found, True
