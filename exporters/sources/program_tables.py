"""Find the rows of a table that an integer input of an exported program indexes."""

from collections.abc import Sequence
from typing import Any

# Operators that an index passes through unchanged on its way to a lookup.
_PASSING = {
    *("to", "_to_copy", "clone", "alias", "contiguous", "detach", "view", "reshape", "expand", "unsqueeze"),
    *(
        "squeeze",
        "permute",
        "transpose",
        "t",
        "flatten",
        "select",
        "slice",
        "repeat",
        "_assert_tensor_metadata",
    ),
}


def ranges(program: Any, inputs: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Input → (0, the last row of the smallest table that it indexes), for inputs that index one."""
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    found = {}
    for name in inputs:
        rows = _smallest(nodes[name])
        if rows is not None:
            found[name] = (0, rows - 1)
    return found


def _smallest(node: Any) -> int | None:
    seen, waiting, rows = {node}, [node], []
    while waiting:
        value = waiting.pop()
        for user in value.users:
            name = getattr(user.target, "_opname", "")
            if name == "embedding" and user.args[1] is value:
                rows.append(user.args[0].meta["val"].shape[0])
            elif name in _PASSING and user.args and user.args[0] is value and user not in seen:
                seen.add(user)
                waiting.append(user)
    sizes = [count for count in rows if isinstance(count, int) and count > 0]
    return min(sizes, default=None)
