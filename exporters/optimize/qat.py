"""Quantization-aware training: training under simulated rounding, before a static quantization."""

from collections.abc import Mapping
from typing import Any, ClassVar

from ..base import Source
from ..errors import UnsupportedOption
from ..options import Option
from .base import Rung, TrainedTechnique, Training
from .static import EVERY_LAYER, Static

_FIRST, _LAST = 5.0, 20.0  # percent of the export


class QuantizationAwareTraining(Static, TrainedTechnique):
    method = "qat"
    reads: ClassVar[tuple[str, ...]] = (*Static.reads, "training")
    fields: ClassVar = {
        **Static.fields,
        "training_dataset_id": Option("string", None, "The dataset that the network is trained on."),
        "training_samples": Option(
            "integer", 10_000, "The most of its rows that are used, drawn with the seed.", (1, 10_000_000)
        ),
        "epochs": Option("integer", 3, "How often each row is used.", (1, 1000)),
        "batch_size": Option("integer", 32, "The rows of a step.", (1, 65_536)),
        "learning_rate": Option("number", 1e-4, "The step size of the optimizer Adam.", (1e-8, 10.0)),
        "seed": Option("integer", 0, "Of the order of the rows.", (0, 2**31 - 1)),
    }

    def rungs(self, format_name: str) -> tuple[Rung, ...]:
        return (Rung("qat", 60, {}, EVERY_LAYER),)

    def train(
        self, source: Source, config: Mapping[str, Any], training: Training
    ) -> tuple[Source, dict[str, Any]]:
        import torch

        from . import losses, simulation, torch_layers
        from .training import Schedule, examples, tensors, train

        schedule = Schedule(
            epochs=config["epochs"],
            batch_size=config["batch_size"],
            learning_rate=config["learning_rate"],
            samples=config["training_samples"],
            seed=config["seed"],
        )
        network = torch_layers.network(source)
        data = examples(training.dataset, [spec.name for spec in source.inputs], schedule)
        loss = losses.of_task(training.dataset.task, tensors(network(*data.first())))
        layers = simulation.simulate(network)
        if not layers:
            raise UnsupportedOption(
                "The network has no convolution or linear layer whose rounding can be trained; recurrent "
                "layers stay in float. Use dynamic quantization.",
                allowed=["dynamic"],
                option="method",
            )
        network.train()
        for module in network.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.eval()  # its statistics are those of the first training

        def report(done: int, epochs: int, mean: float) -> None:
            percent = _FIRST + (_LAST - _FIRST) * done / epochs
            training.progress("train", percent, f"Epoch {done} of {epochs}: loss {mean:.4g}")

        found = train(network, data, loss, schedule, training.folder, training.request, report)
        simulation.remove(network)
        trained = torch_layers.as_source(
            network.eval(), source, "the network after its quantization-aware training, in eager mode"
        )
        return trained, {
            "method": self.method,
            "layers": layers,
            "rows": len(data),
            "batch_size": data.fixed_rows or min(schedule.batch_size, len(data)),
            "losses": [float(f"{one:.6g}") for one in found],
        }


TECHNIQUE = QuantizationAwareTraining()
