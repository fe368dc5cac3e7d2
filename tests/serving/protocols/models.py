"""Models as the protocols see them: what they take and give, and a real pipeline of a declared processing."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from exporters.base import TensorSpec
from exporters.processing.declared import complete_postprocessing, complete_preprocessing
from exporters.processing.pipeline import Pipeline

BATCH = "batch"


@dataclass(frozen=True)
class Model:
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    pipeline: Pipeline


def model(
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec] = (TensorSpec("y", "float32", (BATCH, 3)),),
    *,
    preprocessing: Mapping[str, Any] | None = None,
    postprocessing: Mapping[str, Any] | None = None,
    classes: Sequence[str] | None = None,
    folder: Path = Path(),
) -> Model:
    metadata = {
        "classes": [{"name": name} for name in classes] if classes else None,
        "preprocessing": complete_preprocessing(preprocessing),
        "postprocessing": complete_postprocessing(postprocessing),
        "input_specs": [spec.to_json() for spec in inputs],
    }
    return Model(tuple(inputs), tuple(outputs), Pipeline(metadata, folder))


def tensor_model(dtype: str = "float32", shape: tuple[int | str, ...] = (BATCH, 4)) -> Model:
    return model([TensorSpec("x", dtype, shape)])


def classifier() -> Model:
    return model(
        [TensorSpec("x", "float32", (BATCH, 3, 8, 8))],
        preprocessing={
            "resize": {"method": "resize", "size": [8, 8]},
            "normalize": {"method": "standard", "mean": [0.0], "std": [1.0]},
        },
        postprocessing={"softmax": True, "top_k": 1},
        classes=["a", "b", "c"],
    )


def detector() -> Model:
    return model(
        [TensorSpec("x", "float32", (BATCH, 3, 32, 32))],
        [TensorSpec("y", "float32", (BATCH, 6, 20))],
        preprocessing={"resize": {"method": "letterbox", "size": [32, 32]}},
        postprocessing={"nms": {}, "raw_output": {"format": "cxcywh_classes"}},
    )


def reader(folder: Path, **declared: Any) -> Model:
    """Takes texts, with a tokenizer of a few words."""
    words = {"[UNK]": 0, "[PAD]": 1, "one": 2, "two": 3}
    tokenizer = {
        "version": "1.0",
        "model": {"type": "WordLevel", "vocab": words, "unk_token": "[UNK]"},
        "pre_tokenizer": {"type": "Whitespace"},
        "added_tokens": [],
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return model(
        [TensorSpec(name, "int64", (BATCH, "tokens")) for name in ("input_ids", "attention_mask")],
        preprocessing={"tokenizer": {"type": "huggingface", "file": "tokenizer.json", **declared}},
        folder=folder,
    )


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def png(width: int, height: int, colour: tuple[int, int, int] = (255, 0, 0)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(file, "PNG")
    return file.getvalue()
