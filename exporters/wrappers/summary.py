"""The summary that the README of every package begins with: what the model is, and how to run it."""

from collections.abc import Collection, Mapping
from typing import Any

from .rendering import render

FOLDERS = {
    "python": "runtimes/python",
    "cpp": "runtimes/cpp",
    "swift": "runtimes/swift",
    "kotlin": "runtimes/kotlin",
}
_TITLES = {"python": "Python", "cpp": "C++", "swift": "Swift", "kotlin": "Kotlin"}
_MOST_CLASSES = 20


def markdown(
    metadata: Mapping[str, Any],
    fidelity: Mapping[str, Any] | None,
    sizes: Mapping[str, int],
    languages: Collection[str],
    folders: Mapping[str, str] = FOLDERS,
) -> str:
    """Return the Markdown, with a title, of a package of this release or an earlier one.

    Args:
        metadata: the content of metadata.json.
        fidelity: the content of fidelity.json; None: it is not known.
        sizes: path of each file of the artefact → bytes.
        languages: the languages of the wrappers in the package.
        folders: language → the folder of its wrapper.
    """
    inputs = metadata.get("input_specs") or [metadata["input_spec"]]
    classes = [entry["name"] for entry in metadata.get("classes") or ()]
    preprocessing = metadata.get("preprocessing") or {}
    takes = "tensors"
    if metadata.get("vectorizer") or "tokenizer" in preprocessing:
        takes = "texts"
    elif preprocessing:
        takes = "images"
    elif metadata.get("table"):
        takes = "table"
    return render(
        "summary.md.jinja",
        {
            "model": {"model_name": None, "version": None, **metadata["model_info"]},
            "artefact": metadata.get("artefact", {}),
            "sizes": sizes,
            "inputs": inputs,
            "outputs": list(metadata["output_spec"].values()),
            "axes": metadata.get("dynamic_axes") or {},
            "shapes": metadata.get("example_shapes") or {spec["name"]: _shape(spec) for spec in inputs},
            "takes": takes,
            "predicts": bool(metadata.get("postprocessing")),
            "classes": classes[:_MOST_CLASSES],
            "class_count": len(classes),
            "proof": _proof(fidelity),
            "not_run": _not_run(fidelity, languages),
            "languages": [name for name in FOLDERS if name in languages],
            "titles": _TITLES,
            "folders": folders,
        },
    )


def _shape(spec: Mapping[str, Any]) -> list[int]:
    return [size if isinstance(size, int) else 1 for size in spec["shape"]]


def _proof(fidelity: Mapping[str, Any] | None) -> str:
    if fidelity is None or "verdict" not in fidelity:
        return "not known: the package has no report of a comparison"
    verdict = {"converted_not_executed": "converted, not executed"}.get(
        fidelity["verdict"], fidelity["verdict"]
    )
    stand_in = fidelity.get("stand_in")
    if stand_in:
        return (
            f"{verdict}; its {stand_in['format']} form was compared with {stand_in['reference']}: "
            f"{_compared(stand_in)}"
        )
    if fidelity.get("reason"):
        return f"{verdict}: {fidelity['reason']}"
    return f"{verdict}: compared with {fidelity.get('reference', 'its source')}, {_compared(fidelity)}"


def _compared(fidelity: Mapping[str, Any]) -> str:
    probes = (fidelity.get("probes") or {}).values()
    differences = [one["max_abs"] for one in fidelity.get("outputs", {}).values() if one.get("max_abs")]
    found = f"{sum(one['rows'] for one in probes):,} rows of {sum(one['cases'] for one in probes):,} inputs"
    if differences:
        found += f", largest difference {max(differences):g}"
    judged = fidelity.get("optimization")
    if isinstance(judged, Mapping) and "judged_on" in judged:
        found += f"; after its optimisation judged on {judged['judged_on']}"
    return found


def _not_run(fidelity: Mapping[str, Any] | None, languages: Collection[str]) -> str:
    """Say what the export did not run."""
    parts = []
    if fidelity is not None and fidelity.get("verdict") == "converted_not_executed":
        parts.append("the artefact itself")
    named = [_TITLES[name] for name in FOLDERS if name in languages]
    if named:
        parts.append(f"the generated code ({', '.join(named)})")
    checks = [
        check
        for name, check in (
            ("python", "`model_wrapper.py --verify`"),
            ("cpp", "`ctest`"),
        )
        if name in languages
    ]
    text = " and ".join(parts)
    return f"{text}; {' and '.join(checks)} check it on your machine" if checks and text else text
