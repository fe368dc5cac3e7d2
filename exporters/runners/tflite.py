"""Run TFLite with LiteRT's interpreter, on the CPU."""

from pathlib import Path
from typing import Any

from ..base import Arrays, TensorSpec
from . import InputError, mismatch


class TfliteRunner:
    """An interpreter runs one call at a time: each call takes an idle one, or opens another.

    They share the file's pages; each needs memory of its own only for intermediate tensors.
    """

    def __init__(self, path: Path, threads: int) -> None:
        self._path = path
        self._threads = threads
        first = self._open()
        self._idle = [first]
        signatures = first.get_signature_list()
        if len(signatures) != 1:
            raise ValueError(f"{path.name} has {len(signatures)} signatures instead of one.")
        (self._signature,) = signatures
        runner = first.get_signature_runner(self._signature)
        self.inputs = _specs(runner.get_input_details(), first.get_input_details())
        self.outputs = _specs(runner.get_output_details(), first.get_output_details())

    def predict(self, inputs: Arrays) -> Arrays:
        """Run the model. Raises InputError for a wrong name, dtype or shape; or the runtime's own errors."""
        wrong = mismatch(self.inputs, inputs)
        if wrong:
            raise InputError(wrong)
        try:
            interpreter = self._idle.pop()
        except IndexError:
            interpreter = self._open()
        answer = interpreter.get_signature_runner(self._signature)(**inputs)
        outputs = {spec.name: answer[spec.name] for spec in self.outputs}
        self._idle.append(interpreter)
        return outputs

    def _open(self) -> Any:
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model_path=str(self._path), num_threads=self._threads)
        interpreter.allocate_tensors()
        return interpreter


def load(path: Path, threads: int = 1) -> TfliteRunner:
    """Open an interpreter that uses ``threads`` cores per call.

    Raises:
        ValueError, RuntimeError: the file is missing or no TFLite model.
    """
    return TfliteRunner(path, threads)


def _specs(named: dict[str, Any], ordered: list[dict[str, Any]]) -> tuple[TensorSpec, ...]:
    """Return the tensors in the source's order, which the graph has; a signature sorts them by name."""
    position = {detail["index"]: number for number, detail in enumerate(ordered)}
    return tuple(
        TensorSpec(name, detail["dtype"].__name__.rstrip("_"), tuple(map(int, detail["shape_signature"])))
        for name, detail in sorted(named.items(), key=lambda item: position[item[1]["index"]])
    )
