"""Quantization-aware training: training under simulated rounding, before a static quantization."""

from collections.abc import Mapping
from typing import Any, ClassVar

from ..base import Source
from ..errors import UnsupportedOption
from . import schedule
from .base import TRAINING, Rung, SourceTechnique, Training
from .static import EVERY_LAYER, Static


class QuantizationAwareTraining(Static, SourceTechnique):
    method = "qat"
    reads: ClassVar[tuple[str, ...]] = (*Static.reads, TRAINING)
    fields: ClassVar = {**Static.fields, **schedule.fields(epochs=3, learning_rate=1e-4)}
    reported_as = TRAINING

    def rungs(self, format_name: str) -> tuple[Rung, ...]:
        return (Rung("qat", 60, {}, EVERY_LAYER),)

    def trainings(self, config: Mapping[str, Any]) -> int:
        return 1

    def change(
        self, source: Source, config: Mapping[str, Any], training: Training | None
    ) -> tuple[Source, dict[str, Any]]:
        from . import losses, simulation, torch_layers
        from .training import examples, report, tensors

        assert training is not None  # it trains once
        plan = schedule.Schedule.of(config)
        network = torch_layers.network(source)
        data = examples(training.dataset, [spec.name for spec in source.inputs], plan)
        loss = losses.of_task(
            training.dataset.task,
            tensors(network(*data.first())),
            bounded=torch_layers.ends_in_probabilities(network),
        )
        layers = simulation.simulate(network)
        if not layers:
            raise UnsupportedOption(
                "The network has no convolution or linear layer whose rounding can be trained; recurrent "
                "layers stay in float. Use dynamic quantization.",
                allowed=["dynamic"],
                option="method",
            )
        found = training.run.train(network, data, loss, plan, statistics=False)
        simulation.remove(network)
        trained = torch_layers.as_source(
            network, source, "the network after its quantization-aware training, in eager mode"
        )
        return trained, {"method": self.method, "layers": layers, **report(data, plan, found)}


TECHNIQUE = QuantizationAwareTraining()
