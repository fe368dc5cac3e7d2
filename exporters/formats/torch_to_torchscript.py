"""torch to TorchScript, for libtorch and for Python without the model's source.

An exported program is compiled from its graph, where sizes stay symbols, or traced on an example. A model
that is TorchScript already is only written again without its author's names.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..base import PROGRAM, SCRIPT, Artefact, Case, Exporter, Source
from ..errors import UnsupportedOption, converting
from ..options import Option, Specification
from . import torch_archive, torch_graph

NAME = "model.torchscript.pt"
_COMPILED = "compiled"
_TRACED = "traced"
_AS_IS = "as-is"

SPECIFICATION = Specification(
    name="torchscript",
    extension=".torchscript.pt",
    embeds=True,
    options={
        "method": Option(
            "string",
            None,
            "script: compile the graph, which keeps every dynamic axis. trace: record one run. "
            "Default: script; trace if script fails.",
            ("script", "trace"),
        ),
        "freeze": Option(
            "boolean",
            False,
            "Convert the weights to constants and fold constants: faster, but the weights are no "
            "longer parameters.",
        ),
        "optimize_for_mobile": Option(
            "boolean",
            False,
            "Freeze the model, pack the weights for XNNPACK if this torch supports it, and add the "
            "bytecode for mobile interpreters.",
        ),
    },
)


class TorchToTorchScript(Exporter):
    specification = SPECIFICATION
    takes = (PROGRAM, SCRIPT)
    modules = ("torch",)

    def converters(self, source: Source, options: Mapping[str, Any]) -> Iterable[str]:
        method = options["method"]
        if source.family == PROGRAM:
            return {"script": (_COMPILED,), "trace": (_TRACED,)}.get(method, (_COMPILED, _TRACED))
        if method == "trace":
            raise UnsupportedOption(
                "The model is TorchScript already; a trace would lose the decisions that it makes "
                "at run time. Remove the option method.",
                allowed=["script"],
                option="method",
            )
        return (_AS_IS,)

    def convert(
        self, source: Source, example: Case, options: Mapping[str, Any], folder: Path, converter: str
    ) -> Artefact:
        """Write ``model.torchscript.pt`` into ``folder``.

        It returns one tensor, or a tuple in the order of the outputs. A TorchScript source keeps its outputs'
        form.

        Raises:
            ConversionFailed: an operator that TorchScript does not know.
        """
        import torch

        path = folder / NAME
        extra = torch_graph.interface(source, example)
        with converting("torch cannot create TorchScript of this model", converter), torch_graph.quiet():
            traced = converter == _TRACED
            module = (
                torch_graph.as_script(source, example) if traced else torch_graph.as_compiled_script(source)
            )
            if options["freeze"] or options["optimize_for_mobile"]:
                module = torch.jit.freeze(module.eval())
            if options["optimize_for_mobile"]:
                _save_for_mobile(module, path, extra)
            else:
                torch.jit.save(module, str(path), _extra_files=extra)
            torch_archive.strip_script(path)
        return Artefact((NAME,), converter, {"torch_version": torch.__version__.partition("+")[0]})


EXPORTER = TorchToTorchScript()


def _save_for_mobile(module: Any, path: Path, extra: Mapping[str, str]) -> None:
    from torch.backends import xnnpack

    if xnnpack.enabled:
        from torch.utils.mobile_optimizer import optimize_for_mobile

        module = optimize_for_mobile(module)
    module._save_for_lite_interpreter(str(path), _extra_files=dict(extra))
