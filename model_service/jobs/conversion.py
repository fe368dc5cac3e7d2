"""The request of an export's child, and the fields of the job from its result."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from exporters import package as packages
from model_service import tracing
from model_service.config import Settings
from model_service.jobs import untrusted_json
from model_service.jobs.converter import Event
from model_service.storage.common.documents import Fields
from model_service.storage.evaluations.documents import Evaluation
from model_service.storage.exports.documents import ExportJob

# Parts of a request's configuration that describe the model rather than the format.
PROCESSING = ("classes", "preprocessing", "postprocessing")

_VALIDATION = frozenset({"metrics", "fail_threshold", "samples", "seed"})


def request_of(
    settings: Settings,
    job: ExportJob,
    source: Path,
    samples: Path | None,
    package: Path,
    datasets: Mapping[str, Any],
    teacher: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return the request for the converter, in the form of ``exporters.request.ExportRequest``.

    Args:
        datasets: role → the description of the fetched file.
        teacher: that of the fetched model.
    """
    return {
        "source": str(source),
        "sample_inputs": str(samples) if samples else None,
        "output_dir": str(package),
        "format": job["export_format"],
        "options": job["export_config"],
        **common_fields(settings, job),
        **_on_data(job, datasets, teacher),
        **job["processing"],
    }


def common_fields(settings: Settings, job: ExportJob | Evaluation) -> dict[str, Any]:
    """Return the fields of a request that describe the model, and how its files may be loaded."""
    here = tracing.current()
    return {
        "model": {
            "name": job["model_name"],
            "version": job["model_version"],
            "framework": job["framework"],
            "task_type": job["task_type"],
            "checksum": job["source"]["checksum"],
        },
        "allow_unsafe": settings.allow_unsafe_checkpoints,
        "allowed_modules": settings.allowed_modules,
        "traceparent": here.traceparent if here else None,
    }


def _on_data(
    job: ExportJob, datasets: Mapping[str, Any], teacher: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return the parts of the request that use datasets. Jobs of earlier versions have neither."""
    validation, optimization = job.get("validation_config"), job.get("optimization_config")
    found: dict[str, Any] = {}
    if "validation" in datasets:
        config = {name: value for name, value in (validation or {}).items() if name in _VALIDATION}
        found["validation"] = {**config, "dataset": datasets["validation"]}
    if optimization:
        found["optimization"] = {
            **optimization,
            **{role: data for role, data in datasets.items() if role != "validation"},
            **({} if teacher is None else {"teacher": teacher}),
        }
    return found


def results_of(job: ExportJob, result: Event) -> Fields:
    """Return the fields of the completed job, from the result in the form of ``ExportResult``."""
    original, exported = job["source"]["size_bytes"], result["artefact_size_bytes"]
    return {
        "model_size_bytes": exported,
        "exported_model_path": result["artefact"],
        "fidelity": result["fidelity"],
        "performance": result["performance"],
        "environment": result["environment"],
        "validation_metrics": result.get("validation"),
        "optimization_stats": {
            "original_size_mb": round(original / 1e6, 3),
            "exported_size_mb": round(exported / 1e6, 3),
            "compression_ratio": round(original / exported, 3),
            **(result.get("optimization") or {}),
        },
    }


def interface_of(package: Path) -> Fields:
    """Return the inputs and outputs of the artefact, for its endpoints."""
    metadata = untrusted_json.parse((package / packages.METADATA).read_bytes())
    fields = ("name", "dtype", "shape")
    return {
        "inputs": [{field: spec[field] for field in fields} for spec in metadata["input_specs"]],
        "outputs": [{field: spec[field] for field in fields} for spec in metadata["output_spec"].values()],
        "batch": metadata["batch"],
        "table": metadata["table"],
    }
