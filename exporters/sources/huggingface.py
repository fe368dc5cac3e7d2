"""A Hugging Face folder: config.json, weights as safetensors, and the files of its tokenizer or processor.

transformers builds the network from its own classes. Requests of a configuration beyond that (code beside it,
kernels and backbones of the hub, quantizers) are ignored or refused.
"""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import imports
from ..base import Source
from ..errors import InvalidSource, UnsafeCheckpoint, UnsupportedOption, as_limit
from ..request import Trust
from . import eager, huggingface_inputs, state_dict
from .advice import SAVE_AS_PROGRAM
from .architectures import TIMM_ARGUMENTS, require_match

_CONFIG = "config.json"
_INDEX = "model.safetensors.index.json"
# Keys that would import or download something, or that the loader sets; removed at any depth.
_DROPPED = re.compile(
    r"_.*|fusion_config|attn_implementation|experts_implementation|transformers_weights|name_or_path"
    r"|(torch_)?dtype|custom_pipelines|use_pretrained_backbone|tf_legacy_loss|backbone_kwargs"
)
_OF_TIMM = ("timm_backbone", "timm_wrapper")
_CODE = "auto_map"
_LABELS = ("id2label", "label2id")
# The files that convert a user's text, image or sound into the inputs, and back; kept with the model.
_PROCESSOR = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.txt", "vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model"),
    *("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json"),
)
_SCORES = re.compile(r"Classification|Segmentation|ObjectDetection")
_JSON_LIMIT_BYTES = 64 << 20


def load(path: Path, options: Mapping[str, Any], trust: Trust) -> Source:
    """Load the folder as a source.

    Raises:
        InvalidSource: damaged, no weights, or not those of its configuration.
        UnsafeCheckpoint: the model needs code that came with it.
        UnsupportedOption: an architecture, which the folder itself declares, or inputs that it does not take.
    """
    if options.get("architecture") is not None:
        raise UnsupportedOption(
            "The option architecture is only for weights without a network: a Hugging Face folder "
            "has its config.json. Remove it.",
            allowed=None,
            option="architecture",
        )
    return eager.load("huggingface", build(path, _CONFIG, _weights(path), options))


def build(folder: Path, name: str, weights: dict[str, Any], options: Mapping[str, Any]) -> eager.Network:
    """Build the network that ``folder/name`` describes, with ``weights``. Raises as ``load``."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    imports.require("transformers.models.auto.modeling_auto", "pip install 'model-service[formats]'.")
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    document = read_json(folder / name)
    config = _configuration(document)
    model_class = _model_class(document, config)
    module = _with_weights(model_class, config, weights)
    processor = folder / "preprocessor_config.json"
    network = huggingface_inputs.describe(module, read_json(processor) if processor.is_file() else {})
    labels = document.get("id2label")
    scored = isinstance(labels, dict) and _SCORES.search(model_class.__name__)
    return eager.Network(
        module=network.module,
        inputs=huggingface_inputs.choose(network, options.get("inputs")),
        dimensions=network.dimensions,
        integers=network.integers,
        by_keyword=True,
        classes=tuple(str(label) for _, label in sorted(config.id2label.items())) if scored else None,
        attachments=tuple(folder / name for name in _PROCESSOR if _is_file_of(folder, name)),
    )


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises InvalidSource if it is missing, too large or invalid."""
    try:
        if path.stat().st_size > _JSON_LIMIT_BYTES:
            raise ValueError("too large")
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as exc:
        raise as_limit(exc) or InvalidSource(
            f"{path.name} is missing or not readable. Upload all files that save_pretrained wrote."
        ) from exc
    if not isinstance(document, dict):
        raise InvalidSource(f"{path.name} is not a JSON object. Upload all files that save_pretrained wrote.")
    return document


def _weights(folder: Path) -> dict[str, Any]:
    """Load the weights of all shards. A pickle (pytorch_model.bin) is read as weights only."""
    names = ["model.safetensors"]
    if (folder / _INDEX).is_file():
        index = read_json(folder / _INDEX).get("weight_map")
        names = sorted({str(name) for name in index.values()}) if isinstance(index, dict) else []
    elif not (folder / names[0]).exists():
        names = [name for name in ("pytorch_model.bin",) if (folder / name).exists()]
    if not names:
        raise InvalidSource(
            "The folder has no model.safetensors. Write it with model.save_pretrained(folder) and "
            "upload all of it."
        )
    weights: dict[str, Any] = {}
    for name in names:
        if not _is_file_of(folder, name):
            raise InvalidSource(
                f"The folder has no file {name[:80]!r}, which its index refers to. Upload it too."
            )
        weights |= state_dict.read(folder / name)
    return weights


def _is_file_of(folder: Path, name: str) -> bool:
    return re.fullmatch(r"[\w-][\w.-]*", name) is not None and (folder / name).is_file()


def _configuration(document: Mapping[str, Any]) -> Any:
    from transformers import CONFIG_MAPPING

    kind = document.get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        if _CODE in document:
            raise UnsafeCheckpoint(
                f"The model needs its own code (auto_map in config.json), which is not run. {SAVE_AS_PROGRAM}"
            )
        raise InvalidSource(
            f"config.json has the model_type {str(kind)[:80]!r}, which the installed "
            "transformers does not support: check its spelling, or export the model with torch.export."
        )
    if document.get("quantization_config"):
        raise InvalidSource(
            "The weights are quantized. Upload the model before quantization, and quantize in the export."
        )
    try:
        return CONFIG_MAPPING[kind].from_dict(_cleaned(document))
    except Exception as exc:
        raise as_limit(exc) or InvalidSource(
            f"config.json does not describe a {kind} model: {str(exc).strip()[:300]}"
        ) from exc


def _cleaned(document: Mapping[str, Any]) -> dict[str, Any]:
    cleaned: dict[str, Any] = {}
    for key, value in document.items():
        if key == _CODE or _DROPPED.fullmatch(key) or _is_of_hub(key, document):
            continue
        if key == "model_args" and isinstance(value, dict):  # the arguments of a timm network
            value = {name: argument for name, argument in value.items() if name in TIMM_ARGUMENTS}
        cleaned[key] = value if key in _LABELS else _cleaned_value(value)
    return cleaned | ({"use_cache": False} if "use_cache" in cleaned else {})


def _cleaned_value(value: Any) -> Any:
    if isinstance(value, dict):
        return _cleaned(value)
    return [_cleaned_value(item) for item in value] if isinstance(value, list) else value


def _is_of_hub(key: str, document: Mapping[str, Any]) -> bool:
    """Return whether ``document[key]`` is a name to look up at the hub, not one of timm's own networks."""
    value = document[key]
    if not isinstance(value, str):
        return False
    of_timm = document.get("use_timm_backbone") is True or document.get("model_type") in _OF_TIMM
    if key == "backbone_config" or (key == "backbone" and not of_timm):
        return True
    return key in ("backbone", "architecture") and of_timm and not re.fullmatch(r"[a-z]\w*(\.\w+)?", value)


def _model_class(document: Mapping[str, Any], config: Any) -> Any:
    """Return a class from transformers' list for this model_type, so that a name selects nothing else."""
    import transformers
    from transformers.models.auto import modeling_auto

    known: dict[str, None] = {}
    for table, entries in vars(modeling_auto).items():
        if re.fullmatch(r"MODEL_\w*MAPPING_NAMES", table):
            names = entries.get(config.model_type, ())
            known |= dict.fromkeys([names] if isinstance(names, str) else names)
    base = modeling_auto.MODEL_MAPPING_NAMES.get(config.model_type, "")
    wanted = (document.get("architectures") or [base if isinstance(base, str) else base[0]])[0]
    if wanted not in known:
        raise InvalidSource(
            f"config.json names the architecture {str(wanted)[:80]!r}; supported for "
            f"{config.model_type}: {', '.join(known) or 'none'}."
        )
    return getattr(transformers, wanted)


def _with_weights(model_class: Any, config: Any, weights: dict[str, Any]) -> Any:
    """Return the model with these weights.

    ``from_pretrained`` handles renamed weights. It gets no path, so it reads no file.
    """
    import torch

    torch.manual_seed(0)
    try:
        module, found = model_class.from_pretrained(
            None,
            config=config,
            state_dict=weights,
            dtype=torch.float32,
            attn_implementation="eager",
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except Exception as exc:
        raise as_limit(exc) or InvalidSource(
            f"transformers cannot create {model_class.__name__} from config.json: {str(exc).strip()[:300]}"
        ) from exc
    shapes = [
        f"{name} {list(theirs)} instead of {list(own)}" for name, theirs, own in found["mismatched_keys"]
    ]
    require_match(model_class.__name__, found["missing_keys"], found["unexpected_keys"], shapes)
    return module.eval()
