"""A whole network pickled by ``torch.save(model)``: only if the operator allows every file to run code.

Its classes must be importable under the names that they had when it was saved. The request declares the
inputs.
"""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..base import Source
from ..errors import InvalidSource, UnsafeCheckpoint, as_limit
from ..request import Trust
from . import eager, inputs
from .advice import SAVE_AS_PROGRAM


def load(path: Path, options: Mapping[str, Any], trust: Trust) -> Source:
    """Load the network as a source.

    Raises:
        UnsafeCheckpoint: ``trust`` does not allow it.
        InvalidSource: no network, or its classes are not installed here.
        UnsupportedOption: ``inputs`` is missing or wrong.
    """
    import torch

    if not trust.unsafe_checkpoints:
        raise UnsafeCheckpoint(
            "The file is a Python pickle of a whole network: loading it would run code in it. "
            f"{SAVE_AS_PROGRAM} Or save only its weights with torch.save(model.state_dict(), 'model.pt') and "
            "name their architecture with the option architecture."
        )
    try:
        module = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as exc:
        raise as_limit(exc) or InvalidSource(
            f"The pickled network cannot be loaded here: {type(exc).__name__}: "
            f"{str(exc).strip()[:200]}. {SAVE_AS_PROGRAM}"
        ) from exc
    if isinstance(module, dict):
        module = module.get("model")
    if not isinstance(module, torch.nn.Module):
        raise InvalidSource(f"The pickle holds no torch.nn.Module. {SAVE_AS_PROGRAM}")
    arguments = [
        name
        for name, one in inspect.signature(module.forward).parameters.items()
        if one.default is one.empty and one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
    ]
    specs = inputs.parse(options.get("inputs"), arguments, "A pickled network")
    return eager.load("torch_pickle", eager.Network(module.float(), specs))
