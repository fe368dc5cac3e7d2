"""Distillation: the network is trained to give the outputs of another model, its teacher."""

from collections.abc import Mapping
from typing import Any, ClassVar

from ..base import Source
from ..errors import UnsupportedOption
from ..options import SOURCE_OPTIONS, Option, completed
from . import schedule
from .base import DISTILLATION, TEACHER, TRAINING, SourceTechnique, Training


class Distillation(SourceTechnique):
    section = DISTILLATION
    method = "teacher"
    reported_as = DISTILLATION
    reads: ClassVar[tuple[str, ...]] = (TRAINING, TEACHER)
    fields: ClassVar = {
        "teacher_model_id": Option(
            "string", None, "The teacher: the id of a model version, or NAME/VERSION. Any kind of model."
        ),
        "teacher_config": Option(
            "object",
            {},
            "inputs and architecture of the teacher, for a checkpoint that does not record them.",
        ),
        "temperature": Option(
            "number",
            2.0,
            "Of a classification: the scores of both are divided by it. A higher one shows more of the "
            "teacher's doubts.",
            (0.1, 100.0),
        ),
        "alpha": Option(
            "number",
            0.5,
            "The weight of the teacher's outputs in the loss; the labels have the rest. 1 needs no labels.",
            (0.01, 1.0),
        ),
        **schedule.fields(epochs=10, learning_rate=1e-3),
    }

    def check(self, format_name: str, config: Mapping[str, Any]) -> None:
        """Raises UnsupportedOption for a wrong ``teacher_config``."""
        given = completed("teacher_config", SOURCE_OPTIONS, config["teacher_config"])
        for one in given["inputs"] or []:
            if not isinstance(one, dict) or not isinstance(one.get("shape"), list):
                raise UnsupportedOption(
                    "Each of teacher_config.inputs must be an object with a shape, a list.",
                    allowed=[{"name": "x", "shape": ["batch", 3], "dtype": "float32"}],
                    option="teacher_config",
                )

    def trainings(self, config: Mapping[str, Any]) -> int:
        return 1

    def change(
        self, source: Source, config: Mapping[str, Any], training: Training | None
    ) -> tuple[Source, dict[str, Any]]:
        from . import losses, teachers, torch_layers
        from .training import examples, report, tensors

        assert training is not None  # it trains once
        assert training.teacher is not None
        plan = schedule.Schedule.of(config)
        network = torch_layers.network(source)
        data = examples(training.dataset, [spec.name for spec in source.inputs], plan)
        sample = tensors(network(*data.first()))
        data = teachers.taught(data, training.teacher, tuple(sample[0].shape[1:]))
        loss = losses.distilled(
            training.dataset.task,
            sample,
            data.all_targets(),
            temperature=config["temperature"],
            alpha=config["alpha"],
            bounded=torch_layers.ends_in_probabilities(network),
        )
        found = training.run.train(network, data, loss, plan, statistics=True)
        trained = torch_layers.as_source(
            network, source, "the network after its training by a teacher, in eager mode"
        )
        return trained, {"teacher": training.teacher.described, **report(data, plan, found)}


TECHNIQUE = Distillation()
