"""Estimate from its syntax how much work it is to evaluate an expression of a file."""

import ast
import re
from typing import Any

_IDENTIFIER = re.compile(r"[A-Za-z_]\w*")
_POWERS = {"Pow", "PowByNatural", "FloatPow", "LShift", "RShift"}
_NUMBERS = {"Integer", "Rational"}
_LARGEST = 1 << 64
_LARGEST_EXPONENT = 16
_LARGEST_POWER = 64
_LARGEST_SETTING = 1024


def is_plain(value: Any) -> bool:
    """Return whether a constant is a name, a number of 64 bits or a boolean."""
    if isinstance(value, str):
        return _IDENTIFIER.fullmatch(value) is not None
    return isinstance(value, float) or (isinstance(value, int) and abs(value) <= _LARGEST)


def is_short(tree: ast.expr | ast.Expression) -> bool:
    """Return whether the expression is evaluated without noticeable work.

    Powers and shifts must have small constant exponents, also when nested. Strings must be names of symbols
    and inputs, because other strings could be multiplied.
    """
    todo: list[tuple[ast.AST, float]] = [(tree, 1.0)]
    while todo:
        node, power = todo.pop()
        raised = _power(node)
        if raised is not None:
            exponent = _number(raised)
            if exponent is None or abs(exponent) > _LARGEST_EXPONENT:
                return False
            power *= max(1.0, abs(exponent))
            if power > _LARGEST_POWER:
                return False
        if isinstance(node, ast.keyword) and not _is_setting(node.value):
            return False
        if isinstance(node, ast.Call) and not isinstance(node.func, (ast.Name, ast.Attribute)):
            return False
        named = isinstance(node, ast.Subscript) or (
            isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Symbol"
        )
        parts = [one for one in ast.iter_child_nodes(node) if not (named and _is_text(one))]
        if any(map(_is_text, parts)):
            return False
        todo += [(part, power) for part in parts]
    return True


def _is_setting(node: ast.expr) -> bool:
    """Return whether a keyword's value is small and constant: ``positive=True``, ``precision=53``."""
    return isinstance(node, ast.Constant) and isinstance(node.value, int) and node.value <= _LARGEST_SETTING


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _power(node: ast.AST) -> ast.expr | None:
    """Return the exponent of a power; for a call that hides it, the call itself, which is no number."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        return node.right
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _POWERS):
        return None
    return node.args[1] if len(node.args) > 1 and not isinstance(node.args[1], ast.Starred) else node


def _number(node: ast.AST) -> float | None:
    """Return a constant's value with its sign, also as sympy writes it: Integer(2), Rational(1, 2)."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _number(node.operand)
        return None if value is None else -value
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _NUMBERS:
        numbers = [_number(one) for one in node.args]
        return None if None in numbers or not numbers else numbers[0]
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)) and is_plain(node.value):
        return float(node.value)
    return None
