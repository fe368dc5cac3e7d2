"""Output of ``model-service exports``: jobs and capabilities."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from model_service.cli.common.tables import Listing, Record, milliseconds, sizes
from model_service.client import ExportJob, FormatCapability

Capabilities = Mapping[str, Mapping[str, FormatCapability]]


def job_record(job: ExportJob) -> Record:
    source_mb = (job.optimization_stats or {}).get("original_size_mb")
    source_bytes = None if source_mb is None else source_mb * 1e6
    source, artefact, package = sizes(source_bytes, job.model_size_bytes, job.export_package_size_bytes)
    shown = {
        "id": job.id,
        "model": " ".join(filter(None, (job.model_name, job.model_version, job.model_id))),
        "version": job.version,
        "tag": job.version_tag,
        "default": "yes" if job.is_default else None,
        "retry of": job.retry_of,
        "reused from": job.reused_from,
        "format": job.export_format,
        "options": _options(job.raw.get("export_config")),
        "status": job.status,
        "progress": None
        if job.ended
        else f"{job.progress_percent:.0f} %  {job.progress_message or ''}".rstrip(),
        "error": job.error_code and f"{job.error_code}: {job.error_message}",
        "verdict": (job.fidelity or {}).get("verdict"),
        "inputs": "\n".join(map(_interface, job.inputs or ())),
        "outputs": "\n".join(_outputs(job)),
        "compared on": "\n".join(_probes(job.fidelity or {})),
        "tolerance": "\n".join(_tolerances(job.fidelity or {}, job.raw.get("outputs") or ())),
        "recipes": "\n".join(_recipes(job.optimization_stats or {})),
        "latency": _latency(job.raw.get("performance")),
        "source": source,
        "artefact": artefact,
        "package": package,
        "created (UTC)": job.created_at,
        "started (UTC)": job.started_at,
        "completed (UTC)": job.completed_at,
    }
    return Record(shown)


def _options(config: Any) -> str:
    """Return the options that have a value, in the form of ``--option``."""
    given = config.items() if isinstance(config, dict) else ()
    return "\n".join(f"{name}={json.dumps(value)}" for name, value in given if value not in (None, False))


def _interface(tensor: dict[str, Any]) -> str:
    shape = ", ".join(map(str, tensor.get("shape", ())))
    return f"{tensor.get('name')}  {tensor.get('dtype')}[{shape}]"


def _outputs(job: ExportJob) -> list[str]:
    """Format each output with its largest difference from the source's."""
    compared = (job.fidelity or {}).get("outputs") or {}
    outputs = job.raw.get("outputs") or [{"name": name} for name in compared]
    rows = (
        (_interface(each) if "dtype" in each else each["name"], _difference(compared.get(each["name"])))
        for each in outputs
    )
    return ["  ".join(filter(None, each)) for each in rows]


def _recipes(stats: Mapping[str, Any]) -> list[str]:
    """Format a line for each recipe that ``"optimize": "auto"`` measured, or for which it says why not."""
    lines = []
    for row in stats.get("table") or ():
        parts = [row["outcome"]]
        if "drop" in row:
            low, high = row["interval"]
            parts.append(f"{row['metric']} drops by {row['drop']:.2g} ({low:.2g} to {high:.2g})")
            parts += [*sizes(row["size_bytes"]), milliseconds(row["p50_ms"])]
            parts.append(f"{row['speedup']:g} times as fast")
        reason = f": {row['reason']}" if row["reason"] else ""
        lines.append(f"{row['recipe']}  {', '.join(parts)}{reason}")
    return lines


def _difference(output: Any) -> str:
    if not isinstance(output, dict):
        return ""
    parts = [
        f"{label} {output[key]:.3g}"
        for key, label in (("max_abs", "max diff"), ("max_rel", "relative"))
        if isinstance(output.get(key), int | float)
    ]
    if isinstance(output.get("top1_agreement"), int | float):
        parts.append(f"same label {output['top1_agreement']:.0%}")
    if output.get("passed") is False:
        parts.append("differs")
    return ", ".join(parts)


def _probes(fidelity: Mapping[str, Any]) -> list[str]:
    """Format a line for each class of probes; those of the stand-in if the artefact did not run."""
    found = fidelity.get("probes") or (fidelity.get("stand_in") or {}).get("probes") or {}
    return [f"{name}  {one['cases']} cases, {one['rows']} rows, {_worst(one)}" for name, one in found.items()]


def _worst(one: Mapping[str, Any]) -> str:
    worst = one["worst"] or {}
    share = worst.get("share_of_tolerance")
    if not one["passed"]:
        shown = f": source {worst['source']}, artefact {worst['artefact']}" if "source" in worst else ""
        return f"differs{shown}"
    near = f", {share:.1%} of the tolerance" if isinstance(share, int | float) else ""
    return f"max diff {worst.get('max_abs') or 0:.3g}{near}"


def _tolerances(fidelity: Mapping[str, Any], outputs: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the tolerances of the artefact's precision, or of its outputs' dtypes."""
    fidelity = {**fidelity, **(fidelity.get("stand_in") or {})}
    precision = fidelity.get("precision")
    names = [precision] if precision else dict.fromkeys(each.get("dtype") for each in outputs)
    known = fidelity.get("tolerance") or {}
    return [
        f"{name}  rtol {one['rtol']:g}, atol {one['atol']:g} of the largest number: {one['reason']}"
        for name in names
        if "reason" in (one := known.get(name, {}))
    ]


def _latency(performance: Any) -> str | None:
    """Format the latency of one run on the worker, and the resulting throughput."""
    if not isinstance(performance, dict) or performance.get("inference_latency_ms") is None:
        return None
    rate = performance.get("throughput_fps")
    throughput = f", {rate:g} inputs/s" if isinstance(rate, int | float) else ""
    return f"{milliseconds(performance['inference_latency_ms'])}{throughput}, on the worker"


def matrix(found: Capabilities) -> tuple[Listing, str, Record]:
    """Format a table of frameworks and formats with one word each, and a legend."""
    formats = list(dict.fromkeys(name for each in found.values() for name in each))
    rows = [(framework, *(_word(each.get(name)) for name in formats)) for framework, each in found.items()]
    words = {word for row in rows for word in row[1:]}
    legend = {word: meaning for word, meaning in _LEGEND.items() if word in words}
    return Listing(("", *formats), rows, gap=1), "", Record(legend | _reasons(found))


_LEGEND = {
    "yes": "in one step",
    "onnx": "through ONNX",
    "off": "possible, but no running worker supports it",
    "-": "not possible",
}


def _word(capability: FormatCapability | None) -> str:
    if capability is None or not capability.supported:
        return "-"
    if not capability.available:
        return "off"
    return "yes" if capability.native else "onnx"


def _reasons(found: Capabilities) -> dict[str, str]:
    """Return why formats are unavailable, by name."""
    formats: dict[str, list[str]] = {}
    for each in found.values():
        for name, capability in each.items():
            if capability.supported and not capability.available and capability.reason:
                names = formats.setdefault(capability.reason, [])
                names += [name] if name not in names else []
    return {", ".join(names): reason for reason, names in formats.items()}


def of_framework(formats: Mapping[str, FormatCapability]) -> tuple[Listing, str, Record]:
    """Format a line for each possible format, then the impossible ones, and why some are unavailable."""
    rows = [
        (
            name,
            _word(each),
            each.quality or "",
            "yes" if each.preprocessing_embedded else "no",
            ", ".join(each.sources),
        )
        for name, each in formats.items()
        if each.supported
    ]
    columns = ("format", "now", "quality", "embeds preprocessing", "made of")
    impossible = ", ".join(name for name, each in formats.items() if not each.supported)
    notes = {"not possible": impossible, **_reasons({"": formats})}
    return Listing(columns, rows, spare=("embeds preprocessing",)), "", Record(notes)
