"""Texts through a tokenizer that came with the model."""

import json
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import torch
import transformers

from exporters import runners
from exporters.convert import run
from exporters.errors import InvalidSource, UnsupportedOption
from exporters.processing.pipeline import Pipeline
from exporters.processing.text import Tokenizer
from exporters.request import ExportRequest

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "small", "text", "of", "words"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of texts, as ``save_pretrained`` writes it."""
    path = tmp_path_factory.mktemp("text") / "model"
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=32,
        id2label={0: "dull", 1: "bright"},
        label2id={"dull": 0, "bright": 1},
    )
    transformers.BertForSequenceClassification(config).save_pretrained(path)
    tokenizer.save(str(path / "tokenizer.json"))
    return path


@pytest.mark.parametrize(
    ("declared", "shape"),
    [
        ({"padding": "longest"}, (2, 4)),
        ({"padding": "max_length", "max_length": 6}, (2, 6)),
        ({"padding": "longest", "max_length": 3}, (2, 3)),
    ],
    ids=str,
)
def test_padding_and_truncation(declared: dict, shape: tuple[int, int], folder: Path) -> None:
    given = {"file": "tokenizer.json", "max_length": 512, "truncation": True, **declared}

    tokens = Tokenizer(given, folder)(["a small text", "a small text of"])

    assert tokens["input_ids"].shape == tokens["attention_mask"].shape == shape
    assert tokens["input_ids"][0, :3].tolist() == [4, 5, 6]
    assert tokens["attention_mask"].sum() == min(3, shape[1]) + min(4, shape[1])


def test_texts_of_different_lengths_need_padding(folder: Path) -> None:
    tokenize = Tokenizer(
        {"file": "tokenizer.json", "max_length": 9, "padding": "none", "truncation": True}, folder
    )

    with pytest.raises(ValueError, match="different numbers of tokens"):
        tokenize(["a", "a text"])


def test_a_package_answers_texts_with_the_checkpoints_labels(folder: Path, tmp_path: Path) -> None:
    run(
        ExportRequest(
            folder,
            tmp_path / "out",
            "onnx",
            preprocessing={"tokenizer": {"max_length": 16}},
            postprocessing={"softmax": True},
        )
    )

    metadata = json.loads((tmp_path / "out/metadata.json").read_bytes())
    pipeline = Pipeline(metadata, tmp_path / "out")
    inputs, _ = pipeline.prepare(["a small text", "words"])
    outputs = runners.load(tmp_path / "out").predict(inputs)
    answers = pipeline.predictions(outputs)
    assert answers is not None
    model = transformers.BertForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
        expected = model(**tensors).logits.softmax(1).numpy()
    for (answer,), row in zip(answers, expected, strict=True):
        assert answer["class"] == ["dull", "bright"][int(np.argmax(row))]
        assert answer["confidence"] == pytest.approx(float(row.max()), abs=1e-5)
    assert (tmp_path / "out/labels.txt").read_text() == "dull\nbright\n"


def test_a_model_without_a_tokenizer_cannot_declare_one(folder: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        (bare / name).write_bytes((folder / name).read_bytes())

    with pytest.raises(UnsupportedOption, match="was not uploaded with the model"):
        run(ExportRequest(bare, tmp_path / "out", "onnx", preprocessing={"tokenizer": {}}))


def test_stored_texts_are_probes_of_their_own(folder: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "samples.npz", text=["a small text", "words", ""])
    declared = {"preprocessing": {"tokenizer": {"max_length": 16}}, "sample_inputs": tmp_path / "samples.npz"}

    found = run(ExportRequest(folder, tmp_path / "out", "onnx", **declared))

    assert found.fidelity["probes"]["samples"]["rows"] == 3
    with pytest.raises(
        InvalidSource, match="must contain 'input_ids'"
    ):  # without a tokenizer, texts are no inputs
        run(ExportRequest(folder, tmp_path / "other", "onnx", sample_inputs=tmp_path / "samples.npz"))
