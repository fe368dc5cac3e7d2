"""Check a TorchScript archive before torch reads it, and its graph before it runs.

``torch.jit.load`` compiles the archive's code and runs none of it, except ``__setstate__``, in the code and
in native classes (``torch.classes``): an archive with either is refused unread. The operations of the code
are checked on the graph that torch compiled from it, never on its text, which can write one call in many
ways.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import InvalidSource, UnsafeCheckpoint, as_limit
from .torch_operators import is_allowed

_RUNS_WHILE_LOADING = (b"__setstate__", b"torch.classes")
_READ_BY_TORCH = (".py", ".pkl")
# Control flow, containers, attributes, and queries of a tensor's properties.
_PRIMS = """
AnnotateTensor BroadcastSizes Constant ConstantChunk CreateObject DictConstruct EnumName EnumValue GetAttr
If IfThenElse ImplicitTensorToNum ListConstruct ListUnpack Loop NumToTensor Param Print RaiseException
Return SetAttr StringIndex TupleConstruct TupleIndex TupleSlice TupleUnpack Uninitialized abs annotate
data device dtype index is_cpu is_cuda is_meta is_mkldnn is_nested is_quantized is_sparse isinstance
itemsize layout max min name nbytes rangelist requires_grad tolist type unchecked_cast
unchecked_unwrap_optional
"""
_PRIMITIVES = frozenset(_PRIMS.split())


def check_archive(path: Path) -> None:
    """Refuse an archive that would run code while torch loads it.

    Raises:
        UnsafeCheckpoint: a part that would run code, or two parts with one name.
        InvalidSource: it cannot be read, or was written by a torch before 1.2.
    """
    import torch

    try:
        reader = torch._C.PyTorchFileReader(str(path))
        # torch ignores the case of a part's name.
        names = reader.get_all_records()
        if len({name.lower() for name in names}) != len(names):
            raise UnsafeCheckpoint(
                "The TorchScript file contains two parts with the same name, which is refused: "
                "torch could read the part that was not checked. Save the model again with "
                "torch.jit.save."
            )
        if "model.json" in {name.lower() for name in names}:
            raise InvalidSource(
                "The TorchScript file was written by a torch before 1.2. Save it again with a newer version."
            )
        for name in names:
            if name.lower().endswith(_READ_BY_TORCH):
                part = reader.get_record(name)
                found = next((word for word in _RUNS_WHILE_LOADING if word in part), None)
                if found:
                    raise _refusal(
                        f"has {found.decode()} in {name[:80]!r}",
                        found.decode(),
                        "it runs while torch loads it",
                    )
    except (RuntimeError, UnicodeDecodeError) as exc:
        raise as_limit(exc) or InvalidSource(
            "torch cannot read the archive of the TorchScript file: it was cut short or changed. Upload it "
            "again."
        ) from exc


def check_graph(module: Any) -> None:
    """Refuse a loaded module that uses an operator which is not on the list.

    Checks every method and hook of every submodule, with all calls inlined.

    Raises:
        UnsafeCheckpoint: ``details`` has the operator.
    """
    import torch

    for part in module.modules():
        script = part._c
        hooks = [*script._get_forward_hooks(), *script._get_forward_pre_hooks()]
        methods = [script._get_method(name) for name in script._method_names()]
        for graph in (one.graph for one in [*methods, *hooks]):
            inlined = graph.copy()
            torch._C._jit_pass_inline(inlined)
            for kind in _kinds(inlined):
                namespace, _, name = kind.partition("::")
                known = name in _PRIMITIVES if namespace == "prim" else is_allowed(namespace, name)
                if not known:
                    raise _refusal(
                        f"uses {kind[:80]}",
                        kind[:80],
                        "it can access more than the model, or is not known to be safe",
                    )


def _kinds(graph: Any) -> Iterator[str]:
    """Yield the kind of every node of a graph or a block, including nested ones."""
    for node in graph.nodes():
        yield node.kind()
        for block in node.blocks():
            yield from _kinds(block)
        for name in node.attributeNames():
            if node.kindOf(name) == "g":
                yield from _kinds(node.g(name))
            elif node.kindOf(name) == "gs":
                for inner in node.gs(name):
                    yield from _kinds(inner)


def _refusal(what: str, part: str, why: str) -> UnsafeCheckpoint:
    return UnsafeCheckpoint(
        f"The TorchScript code {what}, which is refused: {why}. Export the model without it, or upload it "
        "as a .pt2 of torch.export.",
        part=part,
    )
