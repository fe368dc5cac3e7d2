"""Check the functions and patterns in an estimator's state that scikit-learn calls or searches with."""

from functools import partial
from typing import Any

import numpy as np

from ..errors import UnsafeCheckpoint
from ..processing.vectorizer import is_quick
from .estimator_globals import FUNCTIONS
from .native_refusals import require, require_code
from .pickle_values import is_check_of_numbers


def check_functions(part: Any) -> None:
    """Check the functions that scikit-learn calls, and the files that it opens, because of the state."""
    kind, state = type(part).__name__, getattr(part, "__dict__", {})
    if isinstance(part, partial):
        require_code(_is_check(part), "a function with arguments")
    if _is_check(state.get("func")):
        # In histogram gradient boosting with categories, this function returns its input
        state["func"] = None
    if kind in ("FunctionTransformer", "TransformedTargetRegressor"):
        given = [state.get(name) for name in ("func", "inverse_func")]
        fits = all(one is None or (isinstance(one, np.ufunc) and one.__name__ in FUNCTIONS) for one in given)
        require_code(fits and not state.get("kw_args") and not state.get("inv_kw_args"), "a function")
    elif kind in ("CountVectorizer", "TfidfVectorizer"):
        plain = (
            state.get("input") == "content"
            and state.get("analyzer") in ("word", "char", "char_wb")
            and all(state.get(name) is None for name in ("preprocessor", "tokenizer"))
            and state.get("strip_accents") in (None, "ascii", "unicode")
        )
        require_code(
            plain and "_analyzer" not in state,
            "a vectorizer that calls a function or opens files",
            "Fit it without preprocessor and tokenizer, with the analyzer 'word', 'char' or 'char_wb'.",
        )
        check_tokens(state.get("token_pattern"))
        words = state.get("vocabulary_", {})
        places = sorted(words.values()) if isinstance(words, dict) else None
        require(places == list(range(len(words))), "a vocabulary with columns that are out of range")
    elif kind == "IsotonicRegression" and "X_thresholds_" in state and "f_" not in state:
        part._build_f(part.X_thresholds_, part.y_thresholds_)  # as its __setstate__ does


def check_tokens(pattern: Any) -> None:
    """Raises UnsafeCheckpoint for a vectorizer's ``token_pattern`` that may search for hours."""
    if pattern is not None and not (isinstance(pattern, str) and is_quick(pattern)):
        raise UnsafeCheckpoint(
            f"The vectorizer splits texts with the token_pattern {str(pattern)[:80]!r}, which is "
            "not supported, because some patterns never finish. Use at most one repetition, as the "
            "last element, like the default (?u)\\b\\w\\w+\\b; a pattern that ends with \\b must "
            "begin with \\b. Then fit again.",
            refused="token_pattern",
        )


def _is_check(function: Any) -> bool:
    from sklearn.utils import check_array

    return (
        isinstance(function, partial)
        and function.func is check_array
        and not function.args
        and is_check_of_numbers(function.keywords)
    )
