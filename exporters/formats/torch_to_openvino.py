"""torch to OpenVINO, by OpenVINO's own front end.

- ``fx`` walks the exported program.
- ``torchscript`` walks a TorchScript graph. It is used for a TorchScript source, and as the second try for an
  exported program, on a trace of it.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..base import PROGRAM, SCRIPT, Artefact, Case, Source
from ..errors import converting
from ..runners.openvino import runtime
from . import openvino_file, torch_graph
from .openvino_file import ToOpenVINO

FX = "fx"
TORCHSCRIPT = "torchscript"


class TorchToOpenVINO(ToOpenVINO):
    takes = (PROGRAM, SCRIPT)
    modules = ("torch", "openvino")

    def converters(self, source: Source, options: Mapping[str, Any]) -> Iterable[str]:
        return (FX, TORCHSCRIPT) if source.family == PROGRAM else (TORCHSCRIPT,)

    def convert(
        self, source: Source, example: Case, options: Mapping[str, Any], folder: Path, converter: str
    ) -> Artefact:
        """Write ``model.xml`` and ``model.bin`` into ``folder``.

        Raises:
            ConversionFailed: OpenVINO does not know an operator of the model, or loses an input or output.
        """
        with converting("OpenVINO cannot convert this model", converter), torch_graph.quiet():
            model = _by_fx(source) if converter == FX else _by_torchscript(source, example)
            return openvino_file.write(model, source, example, options, folder, converter)


EXPORTER = TorchToOpenVINO()


def _by_fx(source: Source) -> Any:
    # With shared weights, the model would use the memory of the torch tensors.
    return runtime().convert_model(source.program, share_weights=False)


def _by_torchscript(source: Source, example: Case) -> Any:
    import numpy as np

    openvino = runtime()
    # A TorchScript graph has neither dtypes nor ranks; operations that depend on them need these.
    inputs = [
        (
            openvino.PartialShape([-1 if isinstance(size, str) else size for size in spec.shape]),
            openvino.Type(np.dtype(spec.dtype)),
        )
        for spec in source.inputs
    ]
    graph = torch_graph.as_script(source, example)
    return openvino.convert_model(graph, share_weights=False, input=inputs)
