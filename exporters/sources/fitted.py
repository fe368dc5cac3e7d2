"""The fitted parts of an estimator, without the templates in its constructor's parameters.

An estimator stores the parameters of its constructor beside the results of ``fit``. An estimator among these
parameters is a template: ``fit`` clones it first, so the template itself is not fitted, or was fitted on
other data.
"""

import functools
from collections.abc import Iterator
from typing import Any

from .objects import walk

# Parameters that are fitted in place.
_IN_PLACE = {
    "Pipeline": {"steps"},
    "FeatureUnion": {"transformer_list"},
    "FrozenEstimator": {"estimator"},
}


def parts(estimator: Any) -> Iterator[Any]:
    """Yield the estimator and every fitted object below it that has attributes, each once."""
    return walk(estimator, attributes)


def attributes(value: Any) -> dict[str, Any]:
    """Return the attributes of an object, without an estimator's constructor parameters."""
    held: dict[str, Any] = getattr(value, "__dict__", {})
    if not hasattr(value, "_get_param_names"):
        return held
    kind: Any = type(value)
    templates = _templates(kind)
    return {name: one for name, one in held.items() if name not in templates}


@functools.cache
def _templates(kind: Any) -> frozenset[str]:
    return frozenset(kind._get_param_names()) - _IN_PLACE.get(kind.__name__, set())


def is_passthrough(step: Any) -> bool:
    """Return whether a step of a pipeline or of a column transformer returns its input unchanged."""
    if step is None or isinstance(step, str):
        return step != "drop"
    return type(step).__name__ == "FunctionTransformer" and step.func is None
