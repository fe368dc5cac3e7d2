"""Call a torch network with arrays, on the CPU: shared by the runners of torch's own formats."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from ..base import Arrays, TensorSpec
from ..errors import as_limit
from . import InputError, mismatch


class TorchRunner:
    """``call`` takes the inputs as tensors in order, and returns tensors in the order of the outputs.

    A network in eval mode stores nothing between calls, so several threads may call it at once.
    """

    def __init__(
        self,
        call: Callable[..., Any],
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        threads: int,
    ) -> None:
        self._call = call
        self._threads = threads
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)

    def predict(self, inputs: Arrays) -> Arrays:
        """Run it. Raises InputError for a wrong name, dtype, shape, or sizes and values that it rejects."""
        import torch

        from ..sources.tensors import flatten_outputs, to_numpy, to_torch

        wrong = mismatch(self.inputs, inputs)
        if wrong:
            raise InputError(wrong)
        # torch stores this number per thread, and a process may have more than one runner.
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        with torch.no_grad():
            try:
                answer = self._call(*(to_torch(inputs[spec.name]) for spec in self.inputs))
            except (IndexError, RuntimeError, ValueError, AssertionError) as exc:
                if as_limit(exc):
                    raise
                # The same network ran before, so the error comes from sizes or values.
                reason = (str(exc).strip().splitlines() or ["no reason given"])[-1]
                raise InputError(f"The model does not accept these inputs: {reason[:300]}") from exc
        tensors = flatten_outputs(answer, ()).values()
        return {spec.name: to_numpy(value) for spec, value in zip(self.outputs, tensors, strict=True)}


def read_interface(text: str | bytes) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Return inputs and outputs from the ``interface.json`` of an archive.

    Raises:
        ValueError: the archive has none.
    """
    if not text:
        raise ValueError("The archive has no interface.json, so it was not written by an export.")
    document = json.loads(text)
    return (
        tuple(map(TensorSpec.from_json, document["inputs"])),
        tuple(map(TensorSpec.from_json, document["outputs"])),
    )
