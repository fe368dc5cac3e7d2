"""Load a source, apply the techniques that change it, and choose the inputs for the comparison."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import conversions, registry, sources, validating
from ..base import Case, Progress, Source
from ..optimize import config, pipeline
from ..optimize.judgement import Judge
from ..processing import embed
from ..proof import cases, samples
from ..request import ExportRequest
from ..steps import Steps


@dataclass(frozen=True)
class Prepared:
    """A source as the artefact presents it.

    ``request``: with the details that its declarations leave open. ``loaded``: the source as it was loaded.
    ``original``: ``source`` before its optimisation. ``changes``: the report of the techniques that changed
    it. ``judge``: None without a dataset.
    """

    request: ExportRequest
    loaded: Source
    original: Source
    source: Source
    cases: list[Case]
    rejected: Mapping[str, Any]  # sizes and values that the source itself does not accept
    possible: list[conversions.Conversion]
    validator: validating.Validator | None
    judge: Judge | None
    changes: dict[str, Any]


def options_of(request: ExportRequest) -> dict[str, Any]:
    """Return the complete options of the format. Raises UnsupportedOption."""
    return registry.specification(request.format).validate(request.options)


def prepare(
    request: ExportRequest,
    scratch: Path,
    steps: Steps,
    progress: Progress,
    loaded: Source | None = None,
) -> Prepared:
    """Prepare the source of a request.

    Args:
        scratch: an empty folder for files that conversions read.
        loaded: the request's source, if it was loaded before.

    Raises:
        ExportError: as ``convert.run``.
    """
    options = options_of(request)
    request = embed.complete(request, options)
    with steps.timed("load"):
        if loaded is None:
            progress("load", 5.0, "Loading the model")
            loaded = sources.load(request.source, options, request.trust)
        changed, changes = loaded, dict[str, Any]()
        if config.chosen(request.optimization or {}):
            with steps.timed("optimize"):
                changed, changes = pipeline.change_source(loaded, request, progress)
        declared = embed.as_declared(request, changed, options)
        source, request = _presented(changed, declared, options, scratch)
        routes = registry.routes(request.format, source.family, options)
        # Errors in the options are reported before the long part
        conversions.of_routes(routes, source, options)
        original = _presented(loaded, declared, options, scratch)[0] if changes else source
    with steps.timed("reference"):
        progress("reference", 20.0, "Running the source model")
        plan = cases.examine(source)
        source = plan.source
        request = embed.name_classes(request, source, plan.cases[0])
        embed.check_outputs(request, plan.cases[0])
    validator = validating.open_for(request, source)  # before the long part, too
    judge = pipeline.judge(request, source, validator)
    if judge is not None and changes:
        of_original = judge.against(original.reference)
        for change in changes.values():
            change["judgement"] = of_original.judge(source.reference)
        if config.TRAINING in changes:  # its training is part of the quantization that is judged
            judge = of_original
    return Prepared(
        request=request,
        loaded=loaded,
        original=original,
        source=source,
        cases=plan.cases,
        rejected=plan.rejected,
        possible=conversions.of_routes(routes, source, options),
        validator=validator,
        judge=judge,
        changes=changes,
    )


def _presented(
    source: Source, request: ExportRequest, options: Mapping[str, Any], scratch: Path
) -> tuple[Source, ExportRequest]:
    """Return the source with what the request embeds, as the artefact presents it."""
    embed.check_source(source, request, options)
    source = embed.embed(source, request, scratch)
    source, request = embed.with_suppression(source, request, options)
    source = samples.attach(source, request.sample_inputs, request.preprocessing)
    routes = registry.routes(request.format, source.family, options)
    return registry.presented(routes[0], source, options), request
