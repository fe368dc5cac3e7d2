"""ONNX to OpenVINO, by OpenVINO's own reader."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..base import ESTIMATOR, ONNX, Artefact, Case, Source
from ..errors import ConversionFailed, as_limit
from ..runners.openvino import runtime
from . import openvino_file
from .openvino_file import ToOpenVINO


class OnnxToOpenVINO(ToOpenVINO):
    takes = (ONNX,)
    not_of = (ESTIMATOR,)  # OpenVINO does not support ai.onnx.ml
    modules = ("openvino",)

    def converters(self, source: Source, options: Mapping[str, Any]) -> Iterable[str]:
        return ("onnx",)

    def convert(
        self, source: Source, example: Case, options: Mapping[str, Any], folder: Path, converter: str
    ) -> Artefact:
        """Write ``model.xml`` and ``model.bin`` into ``folder``.

        Raises:
            ConversionFailed: OpenVINO does not know an operator of the model.
        """
        try:
            model = runtime().Core().read_model(source.program)
            return openvino_file.write(model, source, example, options, folder, converter)
        except ConversionFailed:
            raise
        except Exception as exc:
            lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
            if lines and "No conversion rule found for operations: " in lines[-1]:
                operators = lines[-1].rpartition(": ")[2]
                raise ConversionFailed(
                    f"OpenVINO has no operator for {operators[:300]}, which the model needs. Export onnx."
                ) from exc
            raise as_limit(exc) or ConversionFailed(
                f"OpenVINO cannot read this model: {(lines or ['no reason given'])[-1][:300]}"
            ) from exc


EXPORTER = OnnxToOpenVINO()
