"""The format ``pickle`` of estimators, written as ``.skops`` instead of a pickle.

``.skops`` holds the same estimator for ``skops.io.load``, which runs no code of the file; a ``.pkl`` would
run code in the process that opens it. The random states used for fitting are kept, or new if they came from a
pickle.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..base import ESTIMATOR, Artefact, Case, Exporter, Source
from ..errors import converting
from ..options import Specification
from . import skops_file

SPECIFICATION = Specification(name="pickle", extension=".skops", options={})


NAME = "model.skops"
_SKOPS = "skops"


class EstimatorToPickle(Exporter):
    specification = SPECIFICATION
    takes = (ESTIMATOR,)
    modules = ("sklearn", "skops")

    def presented(self, source: Source, options: Mapping[str, Any]) -> Source:
        """See ``Exporter.presented``: with a float64 input, as it was fitted, if the estimator accepts it."""
        from ..sources import estimators

        known = source.texts or source.table
        original = source.program if known is None else known.original
        wide = estimators.as_source(original, "float64")
        if known is not None:
            (wide.texts or wide.table).learn(known)
        given = source.samples
        if given is not None:
            given = {spec.name: given[spec.name].astype(spec.dtype) for spec in wide.inputs}
        return replace(wide, samples=given)

    def converters(self, source: Source, options: Mapping[str, Any]) -> Iterable[str]:
        return (_SKOPS,)

    def convert(
        self, source: Source, example: Case, options: Mapping[str, Any], folder: Path, converter: str
    ) -> Artefact:
        """Write ``model.skops`` into ``folder``.

        Raises:
            ConversionFailed: a part that is neither an estimator nor an array.
        """
        from importlib.metadata import version

        with converting(f"skops cannot store a {type(source.program).__name__}", converter):
            skops_file.write(source.program, folder / NAME)
        needed = ("scikit-learn", "skops") + ((source.kind,) if source.kind != "sklearn" else ())
        return Artefact((NAME,), converter, {"requires": {name: _version(name, version) for name in needed}})


EXPORTER = EstimatorToPickle()


def _version(name: str, version: Any) -> str | None:
    """Return the installed version. XGBoost without CUDA is another distribution of the same module."""
    from importlib.metadata import PackageNotFoundError

    for candidate in (name, f"{name}-cpu"):
        try:
            return str(version(candidate))
        except PackageNotFoundError:
            continue
    return None
