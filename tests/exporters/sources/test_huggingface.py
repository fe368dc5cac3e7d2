"""Hugging Face folders, as save_pretrained writes them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    ViTConfig,
    ViTForImageClassification,
    Wav2Vec2Config,
    Wav2Vec2ForCTC,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

from exporters import sources
from exporters.convert import run
from exporters.errors import InvalidSource, UnsafeCheckpoint, UnsupportedOption
from exporters.request import ExportRequest
from exporters.sources import huggingface

SMALL: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
ANIMALS = {0: "cat", 1: "dog", 2: "owl"}


def _bert() -> PreTrainedModel:
    return BertForSequenceClassification(
        BertConfig(vocab_size=50, max_position_embeddings=40, id2label=ANIMALS, **SMALL)
    )


def _gpt2() -> PreTrainedModel:
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=50, n_embd=16, n_layer=1, n_head=2, n_positions=40, bos_token_id=1, eos_token_id=1
        )
    )


def _vit() -> PreTrainedModel:
    return ViTForImageClassification(ViTConfig(image_size=16, patch_size=8, id2label=ANIMALS, **SMALL))


def _wav2vec2() -> PreTrainedModel:
    convolutions = {"conv_dim": (8, 8), "conv_stride": (5, 4), "conv_kernel": (10, 4)}
    return Wav2Vec2ForCTC(
        Wav2Vec2Config(
            vocab_size=20,
            num_feat_extract_layers=2,
            num_conv_pos_embeddings=8,
            num_conv_pos_embedding_groups=2,
            **convolutions,
            **SMALL,
        )
    )


def _whisper() -> PreTrainedModel:
    layers = {
        f"{part}_{what}": size
        for part in ("encoder", "decoder")
        for what, size in {"layers": 1, "attention_heads": 2, "ffn_dim": 32}.items()
    }
    return WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=50,
            num_mel_bins=8,
            d_model=16,
            max_source_positions=10,
            max_target_positions=20,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            decoder_start_token_id=3,
            **layers,
        )
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A copy of a model's folder, to change."""
    made: dict[str, Path] = {}

    def get(build: Callable[[], PreTrainedModel], **changes: Any) -> Path:
        if build.__name__ not in made:
            torch.manual_seed(0)
            transformers.logging.disable_progress_bar()
            made[build.__name__] = tmp_path_factory.mktemp("saved")
            build().save_pretrained(made[build.__name__], safe_serialization=True)
        copy = tmp_path_factory.mktemp("model") / "model"
        shutil.copytree(made[build.__name__], copy)
        if changes:
            config = json.loads((copy / "config.json").read_bytes())
            (copy / "config.json").write_text(json.dumps(config | changes))
        return copy

    return get


Folder = Callable[..., Path]


@pytest.mark.parametrize(
    ("build", "inputs", "output"),
    [
        (
            _bert,
            {name: ["batch", "sequence"] for name in ("input_ids", "attention_mask", "token_type_ids")},
            "logits",
        ),
        (_gpt2, {name: ["batch", "sequence"] for name in ("input_ids", "attention_mask")}, "logits"),
        (_vit, {"pixel_values": ["batch", 3, 16, 16]}, "logits"),
        (_wav2vec2, {"input_values": ["batch", "samples"]}, "logits"),
        (
            _whisper,
            {"input_features": ["batch", 8, 20], "decoder_input_ids": ["batch", "decoder_sequence"]},
            "logits",
        ),
    ],
    ids=["encoder", "decoder", "vision", "speech", "speech to text"],
)
def test_a_folder_is_verified(
    build: Callable[[], PreTrainedModel],
    inputs: dict[str, list[int | str]],
    output: str,
    folder: Folder,
    tmp_path: Path,
) -> None:
    path = folder(build)
    (path / "tokenizer_config.json").write_text("{}")

    result = run(ExportRequest(path, tmp_path / "out", "onnx"))

    assert (tmp_path / "out/tokenizer_config.json").read_text() == "{}"
    document = json.loads((tmp_path / "out/metadata.json").read_bytes())
    assert result.verdict == "verified"
    assert {spec["name"]: spec["shape"] for spec in document["input_specs"]} == inputs
    assert next(iter(document["output_spec"])) == output
    named = [entry["name"] for entry in document["classes"] or ()]
    assert named == (list(ANIMALS.values()) if build in (_bert, _vit) else [])
    for name, shape in inputs.items():
        for axis, size in enumerate(shape):
            seen = {case["input_shapes"][name][axis] for case in result.fidelity["cases"]}
            assert len(seen) >= 2 if isinstance(size, str) else seen == {size}


def test_the_reference_is_the_saved_model(folder: Folder) -> None:
    path = folder(_bert)
    model = BertForSequenceClassification.from_pretrained(path, local_files_only=True).eval()
    tokens = {
        "input_ids": torch.randint(0, 50, (3, 12)),
        "attention_mask": torch.ones(3, 12, dtype=torch.int64),
        "token_type_ids": torch.zeros(3, 12, dtype=torch.int64),
    }

    source = sources.load(path, {})

    with torch.no_grad():
        expected = model(**tokens).logits
    actual = source.reference({name: tensor.numpy() for name, tensor in tokens.items()})
    torch.testing.assert_close(torch.from_numpy(actual["logits"]), expected)
    assert source.integers["input_ids"] == (0, 49)
    assert source.dimensions["sequence"].maximum == 40
    assert source.classes == ("cat", "dog", "owl")


def test_shards_are_put_together(folder: Folder, tmp_path: Path) -> None:
    model = BertForSequenceClassification.from_pretrained(folder(_bert), local_files_only=True)
    model.save_pretrained(tmp_path / "sharded", safe_serialization=True, max_shard_size="4KB")
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 1

    whole, sharded = sources.load(folder(_bert), {}), sources.load(tmp_path / "sharded", {})

    asked = {spec.name: torch.ones(2, 7, dtype=torch.int64).numpy() for spec in whole.inputs}
    assert (whole.reference(asked)["logits"] == sharded.reference(asked)["logits"]).all()


def test_a_processor_and_nothing_else_is_attached(folder: Folder) -> None:
    path = folder(_vit)
    (path / "preprocessor_config.json").write_text('{"do_resize": true, "size": {"height": 16, "width": 16}}')
    (path / "unrelated.bin").write_bytes(b"x")

    source = sources.load(path, {})

    assert [item.name for item in source.attachments] == ["preprocessor_config.json"]


def test_the_inputs_can_be_narrowed(folder: Folder) -> None:
    given = [{"name": "input_ids", "shape": [1, 8]}, {"name": "attention_mask", "shape": [1, 8]}]

    source = sources.load(folder(_bert), {"inputs": given})

    assert [(spec.name, spec.dtype, spec.shape) for spec in source.inputs] == [
        ("input_ids", "int64", (1, 8)),
        ("attention_mask", "int64", (1, 8)),
    ]
    with pytest.raises(UnsupportedOption, match="contains 'tokens'; the model takes input_ids"):
        sources.load(folder(_bert), {"inputs": [{"name": "tokens", "shape": [1, 8]}]})


def test_weights_can_name_the_configuration_beside_them(folder: Folder) -> None:
    path = folder(_gpt2)

    source = sources.load(path / "model.safetensors", {"architecture": "hf:config.json"})

    assert source.kind == "state_dict"
    assert [spec.name for spec in source.inputs] == ["input_ids", "attention_mask"]


HOSTILE_CODE = {"AutoConfig": "evil.Config", "AutoModelForSequenceClassification": "evil.Model"}


def test_code_beside_a_known_model_is_ignored(folder: Folder) -> None:
    path = folder(_bert, auto_map=HOSTILE_CODE, trust_remote_code=True, _attn_implementation="someone/kernel")
    marker = path / "ran"
    (path / "evil.py").write_text(f"open({str(marker)!r}, 'w')\n")

    source = sources.load(path, {})

    assert source.classes == ("cat", "dog", "owl")
    assert not marker.exists()


def test_a_model_that_is_nothing_but_code_is_refused(folder: Folder) -> None:
    path = folder(_bert, auto_map=HOSTILE_CODE, model_type="evil")
    marker = path / "ran"
    (path / "evil.py").write_text(f"open({str(marker)!r}, 'w')\n")

    with pytest.raises(UnsafeCheckpoint, match="its own code"):
        sources.load(path, {})

    assert not marker.exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model_type": "no-such"}, "does not support"),
        ({"architectures": ["os.system"]}, "supported for bert: BertModel"),
        ({"architectures": ["GPT2LMHeadModel"]}, "supported for bert: BertModel"),
        ({"hidden_size": "large"}, "config.json"),
        ({"hidden_size": 32}, "of another shape"),
        ({"num_hidden_layers": 2}, "missing"),
        ({"quantization_config": {"quant_method": "fp8"}}, "quantized"),
    ],
)
def test_a_configuration_that_is_not_the_weights_is_refused(
    changes: dict[str, Any], says: str, folder: Folder
) -> None:
    with pytest.raises(InvalidSource, match=says):
        sources.load(folder(_bert, **changes), {})


def test_a_shard_outside_the_folder_is_not_read(folder: Folder) -> None:
    path = folder(_bert)
    (path / "model.safetensors").rename(path.parent / "model.safetensors")
    index = {"weight_map": {"x": "../model.safetensors"}}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))

    with pytest.raises(InvalidSource, match=r"no file '\.\./model\.safetensors'"):
        sources.load(path, {})


def test_a_folder_without_weights_or_configuration_says_so(folder: Folder, tmp_path: Path) -> None:
    path = folder(_bert)
    (path / "model.safetensors").unlink()

    with pytest.raises(InvalidSource, match=r"no model\.safetensors"):
        sources.load(path, {})
    with pytest.raises(InvalidSource, match=r"no config\.json"):
        sources.load(tmp_path, {})


def test_a_folder_names_its_architecture_itself(folder: Folder) -> None:
    with pytest.raises(UnsupportedOption, match=r"has its config\.json"):
        sources.load(folder(_bert), {"architecture": "timm:resnet18"})


def test_names_that_reach_the_hub_are_dropped_at_any_depth() -> None:
    inner = {"auto_map": HOSTILE_CODE, "backbone": "someone/model", "size": 1}

    cleaned = huggingface._cleaned(
        {
            "parts": [inner, [inner]],
            "backbone": "resnet50",
            "backbone_kwargs": {"pretrained": True},
            "backbone_config": "someone/model",
            "encoder": {"use_timm_backbone": True, "backbone": "resnet50"},
            "decoder": {"use_timm_backbone": True, "backbone": "hf-hub:someone/model"},
            "timm": {"model_type": "timm_wrapper", "architecture": "hf-hub:someone/model"},
            "model_args": {"checkpoint_path": "/etc/passwd", "depth": 1},
        }
    )

    assert cleaned == {
        "parts": [{"size": 1}, [{"size": 1}]],
        "encoder": {"use_timm_backbone": True, "backbone": "resnet50"},
        "decoder": {"use_timm_backbone": True},
        "timm": {"model_type": "timm_wrapper"},
        "model_args": {"depth": 1},
    }
