"""Which expressions of a program are evaluated; Python itself would be busy with the others for ever."""

import ast

import pytest

from exporters.sources.expressions import is_short


@pytest.mark.parametrize(
    "text",
    [
        "max(9**9**9, 1)",
        "9**s0",
        "((9**16)**16)**16",
        "Pow(Integer(9), Pow(Integer(9), Integer(9)))",
        "Pow(*(9, 9))",
        "(Pow if s0 else Pow)(9, 999999999)",
        "LShift(Integer(1), Integer(999999999))",
        "'a' * 9999999999",
        "(L if s0 else 'a') * 9999999999",
        "Float(1, dps=9999999999)",
        "max(1, 2, key=math.floor)",
    ],
)
def test_an_expression_that_takes_for_ever_is_not_short(text: str) -> None:
    assert not is_short(ast.parse(text, mode="eval"))


@pytest.mark.parametrize(
    "text",
    [
        "max((1 + L['x'].size()[0] // 2)**2, 1) <= 4",
        "math.floor(L['x'].size()[0]**0.5) == -1",
        "Mul(Integer(2), Pow(Add(Symbol('s0', positive=True, integer=True), Integer(1)), Integer(2)))",
        "Pow(Symbol('s1', integer=True), Integer(-1))",
        "Pow(Symbol('s0', integer=True), Rational(1, 2))",
        "RShift(Symbol('s0', integer=True), Integer(3))",
    ],
)
def test_what_torch_writes_is_short(text: str) -> None:
    assert is_short(ast.parse(text, mode="eval"))
