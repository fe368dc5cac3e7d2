"""Derive the inputs of a transformers model from its forward() and its configuration."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..base import Dimension, TensorSpec
from ..errors import InvalidSource
from . import inputs as declared
from .advice import SAVE_AS_PROGRAM
from .eager import Network

_SEQUENCE = 16  # the traced length, unless the model is shorter
_WAVE = 8_000  # samples: half a second of speech
_IMAGE = 224


def describe(module: Any, processor: Mapping[str, Any]) -> Network:
    """Return the network with its inputs. ``processor``: preprocessor_config.json, for the size of an image.

    Raises:
        InvalidSource: it takes an input that the configuration does not describe, like boxes or a graph.
    """
    taken = inspect.signature(module.forward).parameters
    main = getattr(module, "main_input_name", None)
    config = module.config
    network = Network(module, (), {"batch": Dimension()}, by_keyword=True)
    if main == "input_ids" and "input_ids" in taken:
        network = _text(network, taken)
        if "pixel_values" in taken and hasattr(config, "vision_config"):
            network = _image(network, config.vision_config, processor)
    elif main == "pixel_values" and "pixel_values" in taken:
        network = _image(network, config, processor)
    elif main in ("input_values", "input_features") and main in taken:
        network = _sound(network, main, config)
    else:
        raise InvalidSource(
            f"{type(module).__name__} takes {main!r}, but its configuration does not give the "
            f"shape. {SAVE_AS_PROGRAM}"
        )
    if getattr(config, "is_encoder_decoder", False) and "decoder_input_ids" in taken:
        network = _decoder(network)
    return network


def choose(network: Network, given: Any) -> tuple[TensorSpec, ...]:
    """Return the inputs that the option names, or by default all inputs of the network.

    Raises:
        UnsupportedOption: a name that forward() does not have.
    """
    if not given:
        return network.inputs
    own = {spec.name: spec.dtype for spec in network.inputs}
    taken = inspect.signature(network.module.forward).parameters
    named = [str(entry.get("name")) if isinstance(entry, dict) else "" for entry in given]
    unknown = [name for name in named if name not in taken]
    if unknown:
        raise declared.wrong(f"contains {unknown[0]!r}; the model takes {', '.join(own)}")
    filled = [{"dtype": own.get(entry["name"], "float32"), **entry} for entry in given]
    return declared.parse(filled, named, type(network.module).__name__)


def _text(network: Network, taken: Mapping[str, Any]) -> Network:
    module = network.module
    config: Any = module.config.get_text_config()
    names = ["input_ids", "attention_mask"] if "attention_mask" in taken else ["input_ids"]
    types = getattr(config, "type_vocab_size", None) or 0
    if "token_type_ids" in taken and types:
        names.append("token_type_ids")
    integers = {
        "input_ids": _tokens(config),
        "attention_mask": (0, 1),
        "token_type_ids": (0, max(0, types - 1)),
    }
    dimension = _sequence(module, config)
    return _with(network, names, "int64", ("batch", "sequence"), {"sequence": dimension}, integers)


def _decoder(network: Network) -> Network:
    config = network.module.config.get_text_config(decoder=True)
    return _with(
        network,
        ["decoder_input_ids"],
        "int64",
        ("batch", "decoder_sequence"),
        {"decoder_sequence": replace(_sequence(network.module, config), example=_SEQUENCE // 2)},
        {"decoder_input_ids": _tokens(config)},
    )


def _image(network: Network, config: Any, processor: Mapping[str, Any]) -> Network:
    """Add the image input, in the size that the configuration fixes, or otherwise the processor's."""
    size = getattr(config, "image_size", None) or _processed(processor) or _IMAGE
    height, width = size if isinstance(size, Sequence) else (size, size)
    channels = getattr(config, "num_channels", None) or 3
    return _with(network, ["pixel_values"], "float32", ("batch", channels, height, width), {}, {})


def _processed(processor: Mapping[str, Any]) -> tuple[int, int] | int | None:
    size = processor.get("crop_size") if processor.get("do_center_crop") else None
    size = size or processor.get("size")
    if isinstance(size, int):
        return size
    if isinstance(size, dict):
        if {"height", "width"} <= set(size):
            return int(size["height"]), int(size["width"])
        edge = size.get("shortest_edge")
        return int(edge) if isinstance(edge, int) else None
    return None


def _sound(network: Network, name: str, config: Any) -> Network:
    """Add samples of any length, or a spectrogram of the size that the configuration fixes."""
    shape: tuple[int | str, ...] = ("batch", "samples")
    dimensions = {"samples": Dimension(minimum=_receptive_field(config), example=_WAVE)}
    if hasattr(config, "max_source_positions") and hasattr(config, "num_mel_bins"):  # Whisper
        shape, dimensions = ("batch", config.num_mel_bins, 2 * config.max_source_positions), {}
    elif hasattr(config, "max_length") and hasattr(config, "num_mel_bins"):  # a spectrogram transformer
        shape, dimensions = ("batch", config.max_length, config.num_mel_bins), {}
    elif name == "input_features":
        width = getattr(config, "feature_projection_input_dim", None)
        width = width or getattr(config, "input_feat_per_channel", 80) * getattr(config, "input_channels", 1)
        shape, dimensions = ("batch", "frames", width), {"frames": Dimension(example=64)}
    return _with(network, [name], "float32", shape, dimensions, {})


def _receptive_field(config: Any) -> int:
    """Return the number of samples that the convolutions turn into two frames, the shortest useful input."""
    kernels, strides = getattr(config, "conv_kernel", ()), getattr(config, "conv_stride", ())
    length = 2
    for kernel, stride in reversed(list(zip(kernels, strides, strict=False))):
        length = (length - 1) * stride + kernel
    return length


def _sequence(module: Any, config: Any) -> Dimension:
    """Return the axis limited by the positions. If padding has a position, counting starts after it."""
    limits = [getattr(config, name, None) for name in ("max_position_embeddings", "n_positions")]
    longest = next((limit for limit in limits if isinstance(limit, int) and limit > 0), None)
    for name, part in module.named_modules():
        if name.endswith("position_embeddings") and getattr(part, "padding_idx", None) is not None:
            longest = longest - part.padding_idx - 1 if longest else None
            break
    return Dimension(1, longest, min(_SEQUENCE, longest or _SEQUENCE))


def _tokens(config: Any) -> tuple[int, int]:
    return 0, max(1, int(getattr(config, "vocab_size", 2)) - 1)


def _with(
    network: Network,
    names: list[str],
    dtype: str,
    shape: tuple[int | str, ...],
    dimensions: Mapping[str, Dimension],
    integers: Mapping[str, tuple[int, int]],
) -> Network:
    return replace(
        network,
        inputs=network.inputs + tuple(TensorSpec(name, dtype, shape) for name in names),
        dimensions={**network.dimensions, **dimensions},
        integers={**network.integers, **{name: integers[name] for name in names if name in integers}},
    )
