"""Which models convert to which formats, from the list of exporters and the reports of the running workers.

The only list kept here is FRAMEWORKS: the kinds of checkpoint in which each framework's models are uploaded.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from exporters import registry
from exporters.base import ESTIMATOR, FAMILIES
from exporters.delivery.fitting import CONTAINER, EDGE
from exporters.options import Specification
from model_service.errors import UnsupportedOption
from model_service.services.exports.toolchains import Toolchains
from model_service.states import DeploymentType
from model_service.storage.operations.documents import ToolchainReport

# Framework → kinds of checkpoint of its models (see ``exporters.base.FAMILIES``), its own kind first.
FRAMEWORKS: dict[str, tuple[str, ...]] = {
    "ultralytics": ("ultralytics",),
    "timm": ("state_dict", "pt2", "torchscript"),
    "huggingface": ("huggingface", "state_dict", "pt2", "torchscript"),
    "pytorch": ("pt2", "torchscript", "state_dict", "torch_pickle"),
    "sklearn": ("sklearn",),
    "xgboost": ("xgboost",),
    "lightgbm": ("lightgbm",),
    "onnx": ("onnx",),
}
# Alternative framework names in registered models.
_ALIASES = {
    "scikit-learn": "sklearn",
    "scikit_learn": "sklearn",
    "torch": "pytorch",
    "transformers": "huggingface",
    "yolo": "ultralytics",
}
_KINDS_BY_SUFFIX = {
    ".onnx": ("onnx",),
    **dict.fromkeys((".pt", ".pth", ".pt2", ".ts", ".torchscript"), ("pt2", "torchscript", "ultralytics")),
    ".safetensors": ("state_dict",),
}
_EMBEDS = "embed_preprocessing"
_IN_ONE_STEP = 1
_QUALITIES = ("excellent", "good", "fair")  # by the number of limitations


@dataclass(frozen=True)
class Capability:
    """Whether and how well models of one framework convert to one format.

    ``quality`` is "excellent" without ``limitations``, "good" with one, "fair" with more. ``reason``: why the
    format is not available now.
    """

    supported: bool
    available: bool
    quality: str | None
    limitations: list[str]
    native: bool
    preprocessing_embedded: bool
    reason: str | None
    sources: list[str]
    extension: str


@dataclass(frozen=True)
class Framework:
    framework: str
    formats: dict[str, Capability]
    workers: int


class CapabilityService:
    def __init__(self, toolchains: Toolchains) -> None:
        self._toolchains = toolchains

    def of(self, framework: str) -> Framework:
        """Return the capabilities for one framework.

        Raises:
            UnsupportedOption: the framework is unknown.
        """
        if framework not in FRAMEWORKS:
            raise UnsupportedOption(
                f"The framework {framework[:40]!r} is not known: use one of {', '.join(FRAMEWORKS)}.",
                allowed=list(FRAMEWORKS),
                option="framework",
            )
        return self._describe(framework, self._toolchains.reports())

    def all(self) -> list[Framework]:
        reports = self._toolchains.reports()
        return [self._describe(framework, reports) for framework in FRAMEWORKS]

    @staticmethod
    def deployment_types() -> dict[DeploymentType, dict[str, list[str]]]:
        """Return the deployment types, with the formats that fit each platform or server."""
        fitting = {DeploymentType.EDGE_PACKAGE: EDGE, DeploymentType.CONTAINER: CONTAINER}
        return {
            kind: {name: list(formats) for name, formats in fitting.get(kind, {}).items()}
            for kind in DeploymentType
        }

    @staticmethod
    def check_possible(framework: str | None, filename: str, export_format: str) -> None:
        """Reject a format that no exporter produces for this framework's models or for this file name.

        An unknown framework is not rejected: the worker inspects the file.

        Raises:
            UnsupportedOption: ``details.allowed`` lists the possible formats.
        """
        name = (framework or "").casefold()
        kinds = FRAMEWORKS.get(_ALIASES.get(name, name))
        if kinds is None:
            return
        kinds += _KINDS_BY_SUFFIX.get(PurePosixPath(filename).suffix.casefold(), ())
        possible = [
            spec.name
            for spec in registry.specifications()
            if any(registry.steps(spec.name, FAMILIES[kind]) for kind in kinds)
        ]
        if export_format not in possible:
            raise UnsupportedOption(
                f"A {framework} model cannot be exported to {export_format}; possible formats: "
                f"{', '.join(possible)}.",
                allowed=possible,
                option="export_format",
            )

    @staticmethod
    def options() -> dict[str, dict[str, object]]:
        """Return format → option → its type, default and allowed values."""
        return {spec.name: spec.to_json()["options"] for spec in registry.specifications()}

    def _describe(self, framework: str, reports: Sequence[ToolchainReport]) -> Framework:
        kinds = [kind for kind in FRAMEWORKS[framework] if kind in FAMILIES]
        formats = {
            spec.name: _capability(framework, spec, kinds, reports) for spec in registry.specifications()
        }
        return Framework(framework, formats, len(reports))


def _capability(
    framework: str, spec: Specification, kinds: Iterable[str], reports: Sequence[ToolchainReport]
) -> Capability:
    steps = {kind: registry.steps(spec.name, FAMILIES[kind]) for kind in kinds}
    sources = [kind for kind, count in steps.items() if count]
    families = list(dict.fromkeys(FAMILIES[kind] for kind in sources))
    native = _IN_ONE_STEP in steps.values()
    reason = _why_not(framework, spec.name, sources, reports)
    limitations = _limitations(spec, native)
    return Capability(
        supported=bool(sources),
        available=reason is None,
        quality=_QUALITIES[min(len(limitations), len(_QUALITIES) - 1)] if sources else None,
        limitations=limitations if sources else [],
        native=native,
        preprocessing_embedded=_EMBEDS in spec.options and any(family != ESTIMATOR for family in families),
        reason=reason,
        sources=sources,
        extension=spec.extension,
    )


def _limitations(spec: Specification, native: bool) -> list[str]:
    """Return what a converted model may lack compared with its source, one sentence each."""
    found = {
        "It is converted in two steps, through ONNX.": not native,
        "The format has no dynamic axes: every size is fixed at the conversion.": spec.fixes_sizes,
        f"Only {spec.runs_on} can run it; on other platforms it is converted and not verified.": spec.runs_on,
    }
    return [sentence for sentence, holds in found.items() if holds]


def _why_not(
    framework: str, name: str, kinds: Sequence[str], reports: Sequence[ToolchainReport]
) -> str | None:
    """Return why no running worker converts such checkpoints to the format; None if one does."""
    if not kinds:
        return "No exporter converts models of this framework to this format."
    if not reports:
        return "No worker is running that reports its formats: an export would wait."
    unknown = f"The running workers do not know {name}: they have another version of the software."
    reasons: list[str | None] = []
    for report in reports:
        libraries = report.get("libraries", {})
        of_format = report["formats"].get(name, {})
        reasons += [
            libraries.get(framework) or libraries.get(kind) or of_format.get(FAMILIES[kind], unknown)
            for kind in kinds
        ]
    return None if None in reasons else str(reasons[0])
