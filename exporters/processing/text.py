"""Convert texts to a network's inputs, with the ``tokenizers`` library and the package's tokenizer.json."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


class Tokenizer:
    """Tokenizes texts. ``declared``: the completed ``preprocessing.tokenizer``; ``folder``: the package."""

    def __init__(self, declared: Mapping[str, Any], folder: Path) -> None:
        from tokenizers import Tokenizer as Backend

        backend = Backend.from_file(str(folder / declared["file"]))
        backend.no_truncation()
        given = backend.padding or {}  # the file declares the padding token and the side
        backend.no_padding()
        if declared["truncation"]:
            backend.enable_truncation(declared["max_length"])
        if declared["padding"] != "none":
            padding = {
                name: given[name]
                for name in ("direction", "pad_id", "pad_type_id", "pad_token")
                if name in given
            }
            length = declared["max_length"] if declared["padding"] == "max_length" else None
            backend.enable_padding(length=length, **padding)
        self._backend = backend

    def __call__(self, texts: Sequence[str]) -> dict[str, npt.NDArray[np.int64]]:
        """Return int64[texts, tokens] for each input name that a model may have.

        Raises:
            ValueError: texts of different lengths, if the declaration does not pad.
        """
        encoded = self._backend.encode_batch(list(texts))
        if len({len(one.ids) for one in encoded}) > 1:
            raise ValueError(
                "The texts have different numbers of tokens, and no padding is declared: send one "
                "text at a time."
            )
        return {
            "input_ids": np.array([one.ids for one in encoded], np.int64),
            "attention_mask": np.array([one.attention_mask for one in encoded], np.int64),
            "token_type_ids": np.array([one.type_ids for one in encoded], np.int64),
        }
