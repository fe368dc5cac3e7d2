"""Add the declared steps around a network, as a torch module. See ``embed``."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..base import PROGRAM, Source, TensorSpec


def extend(source: Source, pixels: TensorSpec, before: Mapping[str, Any], softmax: bool) -> Source:
    """Return the network that takes ``pixels``. Raises InvalidSource, as ``sources.eager.load``."""
    import torch

    from ..sources import eager

    form, normalize = before["format"], before["normalize"]
    inner = source.program
    if source.family == PROGRAM:
        inner = source.program.module(check_guards=False)
        inner.train = lambda mode=True: inner  # it has no mode, and its train() raises

    class Embedded(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = inner
            for name in ("scale", "mean", "std") if normalize else ():
                self.register_buffer(name, torch.tensor(normalize[name], dtype=torch.float32))

        def forward(self, image: Any) -> Any:
            if form["color_space"] == "BGR":
                image = image.flip(3)
            elif form["color_space"] == "GRAY":
                # Exact: the sum stays below 2**24, up to which float32 represents whole numbers.
                red, green, blue = image.to(torch.float32).split(1, 3)
                image = ((19595 * red + 38470 * green + 7471 * blue + 32768) / 65536).floor()
            if normalize:
                image = (image.to(torch.float32) * self.scale - self.mean) / self.std
            if form["output_layout"] == "NCHW":
                image = image.permute(0, 3, 1, 2)
            outputs = self.network(image.to(getattr(torch, form["dtype"])))
            return _with_softmax(outputs) if softmax else outputs

    module = Embedded().eval()
    network = eager.Network(
        module,
        (pixels,),
        dimensions=source.dimensions,
        integers={pixels.name: (0, 255)},
        classes=source.classes,
        attachments=source.attachments,
    )
    return replace(eager.load(source.kind, network), dimensions=source.dimensions)


def _with_softmax(outputs: Any) -> Any:
    """Apply softmax to the first output in float32; the outputs may be a tensor, a sequence or a dict."""
    import torch

    if isinstance(outputs, dict):
        first = next(iter(outputs))
        return {**outputs, first: torch.softmax(outputs[first].float(), 1)}
    if isinstance(outputs, (tuple, list)):
        return [torch.softmax(outputs[0].float(), 1), *outputs[1:]]
    return torch.softmax(outputs.float(), 1)
