"""What a converter's failure is told as."""

import errno

import pytest

from exporters.errors import ConversionFailed, LimitExceeded, converting


def test_a_failure_is_told_with_its_innermost_reason_and_advice() -> None:
    cause = ValueError("no aten::new\nadvice on debugging")

    with pytest.raises(ConversionFailed) as caught, converting("The tool cannot", "fast", ". Try slow."):
        raise RuntimeError("convert() failed") from cause

    assert caught.value.message == "The tool cannot: ValueError: no aten::new. Try slow."
    assert caught.value.details == {"converter": "fast"}


def test_what_is_told_already_stays_as_it_is() -> None:
    told = ConversionFailed("It needs opset 18.", needed_opset=18)

    with pytest.raises(ConversionFailed) as caught, converting("The tool cannot", "fast"):
        raise told

    assert caught.value is told


@pytest.mark.parametrize(
    ("cause", "limit"),
    [
        (MemoryError(), "memory"),
        (OSError(errno.ENOSPC, "No space left"), "disk"),
        (OSError(errno.EFBIG, "Too large"), "file"),
    ],
    ids=str,
)
def test_a_limit_is_not_the_models_fault(cause: Exception, limit: str) -> None:
    with pytest.raises(LimitExceeded) as caught, converting("The tool cannot", "fast"):
        raise RuntimeError("convert() failed") from cause

    assert caught.value.details == {"limit": limit}
