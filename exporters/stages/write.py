"""Write the package of an artefact."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import metadata, package, wrappers
from ..base import Case, Source
from ..optimize import choice
from ..proof import bounded_cost, golden, independence, validation
from ..request import ExportRequest
from .compare import Compared
from .produce import Produced

PROCESSOR = "preprocessor_config.json"


def write(
    produced: Produced,
    folder: Path,
    performance: Mapping[str, Any],
    results: validation.Results | None,
) -> None:
    """Move the artefact into ``folder``, and write all other files except the manifest."""
    prepared, attempt = produced.prepared, produced.attempt
    source, base = prepared.source, produced.golden()
    size_bytes = 0
    for name in attempt.artefact.files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (attempt.folder / name).rename(folder / name)
        size_bytes += (folder / name).stat().st_size
    performance = {"model_size_bytes": size_bytes, **performance}
    document = _metadata(prepared.request, source, attempt, base, performance, folder)
    document["validation"] = validation.summary(results.document) if results is not None else None
    if results is not None:
        package.write_json(folder / package.VALIDATION, results.document)
        if results.inputs:
            validation.write_inputs(folder / package.VALIDATION_INPUTS, results.inputs)
    if "table" in produced.optimization:
        package.write_json(folder / package.OPTIMIZATION_TABLE, choice.table_of(produced.optimization))
    package.write_json(folder / package.METADATA, document)
    package.write_json(folder / package.FIDELITY, attempt.fidelity)
    known = source.texts or source.table
    name = source.inputs[0].name
    given = {} if known is None else known.golden(name, base.inputs[name])
    golden.write(folder / package.GOLDEN, base, document, given)
    if known is not None and (terms := known.document()) is not None:
        package.write_json(folder / package.VECTORIZER, terms)
    for path in source.attachments:
        shutil.copyfile(path, folder / path.name)
    wrappers.write(folder, document, attempt.fidelity["tools"], attempt.fidelity)


def ignores_processor(produced: Produced) -> bool:
    """Return whether the checkpoint's own preprocessing is neither read nor declared."""
    attached = produced.prepared.source.attachments
    return produced.prepared.request.preprocessing is None and any(
        path.name == PROCESSOR for path in attached
    )


def _metadata(
    request: ExportRequest,
    source: Source,
    attempt: Compared,
    base: Case,
    performance: Mapping[str, Any],
    folder: Path,
) -> dict[str, Any]:
    artefact, runner = attempt.artefact, attempt.runner
    independent = None  # it does not run here, or is wrong
    if runner is not None and not attempt.failed:
        independent = independence.rows_are_independent(runner, base, artefact.precision)
    unbounded = bounded_cost.unbounded(folder / artefact.files[0]) if request.format == "onnx" else None
    outputs = runner.outputs if runner is not None else source.output_specs(base)
    return metadata.describe(request, source, artefact, outputs, base, performance, independent, unbounded)
