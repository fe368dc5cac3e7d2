"""The option ``architecture``: the network that weights belong to.

``timm:NAME``, ``hf:config.json`` and ``package.module:Class``; timm's models and classes take arguments::

    timm:resnet18?num_classes=10&in_chans=1
    my_package.nets:Tagger?hidden=32&bidirectional=true

An argument is JSON, or a text if it is not valid JSON.
"""

import difflib
import inspect
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from .. import imports
from ..base import TensorSpec
from ..errors import InvalidSource, UnsafeCheckpoint, UnsupportedOption, as_limit
from ..request import Trust
from .eager import Network
from .inputs import parse as parse_inputs

_FORMS = ("timm:NAME", "hf:config.json", "package.module:Class")
# Numbers and names of timm's networks. Arguments that would download or read anything other than the uploaded
# weights, or that name a class or a device, are left out.
_OF_TIMM = """
num_classes in_chans img_size global_pool features_only out_indices output_stride
drop_rate drop_path_rate drop_block_rate pos_drop_rate patch_drop_rate proj_drop_rate attn_drop_rate
patch_size embed_dim embed_dims depth depths dims num_heads head_dim mlp_ratio window_size init_values
qkv_bias qk_norm proj_bias class_token pos_embed no_embed_class reg_tokens pre_norm final_norm fc_norm
dynamic_img_size dynamic_img_pad strict_img_size always_partition weight_init fix_init
num_features stem_size stem_kernel_size stem_width stem_type fix_stem pad_type replace_stem_pool
layers channels cardinality base_width avg_down down_kernel_size block_reduce_first zero_init_last
kernel_sizes ls_init_value head_init_scale head_norm_first head_hidden_size conv_mlp conv_bias use_grn
norm_eps act_layer norm_layer aa_layer
"""
TIMM_ARGUMENTS = frozenset(_OF_TIMM.split())
_SHOWN = 5


@dataclass(frozen=True)
class Architecture:
    scheme: str  # timm, hf, or the module of a class
    name: str
    arguments: Mapping[str, Any]

    def build(
        self, weights: dict[str, Any], folder: Path, options: Mapping[str, Any], trust: Trust
    ) -> Network:
        """Build the network with its weights. ``folder`` holds the weights and, for hf, their config.json.

        Raises:
            UnsupportedOption: no such architecture, or arguments or inputs that it does not take.
            UnsafeCheckpoint: a class of a package that the operator does not allow.
            InvalidSource: the weights are of another network.
            MissingDependency: timm or transformers cannot be imported.
        """
        if self.scheme == "timm":
            return _timm(self, weights, options)
        if self.scheme == "hf":
            from . import huggingface

            return huggingface.build(folder, self.name, weights, options)
        return _of_class(self, weights, options, trust)


def parse(text: str | None) -> Architecture:
    """Parse the option. Raises UnsupportedOption if it is missing or has another form."""
    if not text:
        raise UnsupportedOption(
            "The file contains weights without a network. Name the network with the option "
            "architecture: timm:NAME for a model of timm, hf:config.json for a Hugging Face "
            "configuration next to the weights, or package.module:Class of a package that the "
            "operator allows.",
            allowed=list(_FORMS),
            option="architecture",
        )
    head, _, query = text.partition("?")
    scheme, colon, name = head.partition(":")
    if scheme == "hf":
        name = name or "config.json"
        known = re.fullmatch(r"[\w-][\w.-]*\.json", name) is not None and not query
    elif scheme == "timm":
        known = re.fullmatch(r"[a-z]\w*(\.\w+)?", name) is not None
    else:
        known = re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", head) is not None
    if not colon or not known:
        raise _refused(f"The architecture {text[:80]!r} is not of the form {', '.join(_FORMS)}.", _FORMS)
    arguments = {key: _value(value) for key, value in parse_qsl(query, keep_blank_values=True)}
    return Architecture(scheme, name, arguments)


def load_weights(module: Any, weights: Mapping[str, Any], name: str) -> None:
    """Load the weights strictly: every name present, of the right shape, and no others.

    Raises:
        InvalidSource: with the first names that differ.
    """
    own = module.state_dict()
    shapes = [
        f"{key} {list(weights[key].shape)} instead of {list(value.shape)}"
        for key, value in own.items()
        if key in weights and hasattr(value, "shape") and weights[key].shape != value.shape
    ]
    require_match(name, set(own) - set(weights), set(weights) - set(own), shapes)
    try:
        module.load_state_dict(weights)
    except Exception as exc:
        raise as_limit(exc) or InvalidSource(
            f"The weights do not match {name}: {str(exc).strip()[:300]}"
        ) from exc


def require_match(
    name: str, missing: Iterable[str], unexpected: Iterable[str], shapes: Iterable[str]
) -> None:
    """Raises InvalidSource if any of the three is not empty."""
    found = {"missing": sorted(missing), "unexpected": sorted(unexpected), "of another shape": sorted(shapes)}
    parts = [
        f"{len(names)} {what} ({', '.join(names[:_SHOWN])}{', …' if len(names) > _SHOWN else ''})"
        for what, names in found.items()
        if names
    ]
    if parts:
        raise InvalidSource(
            f"The weights do not belong to {name}: {'; '.join(parts)}. Name the architecture that "
            "they were trained with, and its arguments.",
            missing=found["missing"][:_SHOWN],
            unexpected=found["unexpected"][:_SHOWN],
            shapes=found["of another shape"][:_SHOWN],
        )


def _timm(architecture: Architecture, weights: dict[str, Any], options: Mapping[str, Any]) -> Network:
    """Build a network of timm. Missing arguments are taken from the weights and timm's configuration."""
    imports.require("timm", "pip install 'model-service[formats]'.")
    import timm

    name = architecture.name
    if not timm.is_model(name.partition(".")[0]):
        similar = difflib.get_close_matches(name, timm.list_models(), 8)
        shown = f"; similar names: {', '.join(similar)}" if similar else ""
        raise _refused(f"timm has no model {name!r}{shown}.", similar)
    refused = [key for key in architecture.arguments if key not in TIMM_ARGUMENTS]
    if refused:
        allowed = sorted(TIMM_ARGUMENTS)
        raise _refused(
            f"{refused[0][:80]} cannot be set for a model of timm; only {', '.join(allowed)} can.", allowed
        )
    configuration = timm.models.get_pretrained_cfg(name, allow_unregistered=True)
    arguments = {**_arguments_of(weights, configuration), **architecture.arguments}
    module = _make(
        f"timm's {name}", lambda: timm.create_model(name, pretrained=False, exportable=True, **arguments)
    )
    load_weights(module, weights, f"timm's {name}")
    channels, height, width = getattr(configuration, "input_size", None) or (3, 224, 224)
    size = arguments.get("img_size")
    if size is not None:
        height, width = size if isinstance(size, (list, tuple)) else (size, size)
    spec = TensorSpec("input", "float32", ("batch", arguments.get("in_chans", channels), height, width))
    given = options.get("inputs")
    return Network(
        module.float().eval(),
        (spec,) if given is None else parse_inputs(given, ["input"], f"timm's {name}"),
    )


def _arguments_of(weights: Mapping[str, Any], configuration: Any) -> dict[str, Any]:
    """Return ``num_classes`` and ``in_chans``, from the shapes of the last and the first layer."""
    found: dict[str, Any] = {}
    last, first = (
        names[0] if isinstance(names, (list, tuple)) else names
        for names in (getattr(configuration, "classifier", None), getattr(configuration, "first_conv", None))
    )
    if last:
        layer = weights.get(f"{last}.weight")
        found["num_classes"] = 0 if layer is None else layer.shape[0]
    layer = weights.get(f"{first}.weight") if first else None
    if layer is not None and layer.ndim == 4:
        found["in_chans"] = layer.shape[1]
    return found


def _of_class(
    architecture: Architecture, weights: dict[str, Any], options: Mapping[str, Any], trust: Trust
) -> Network:
    import torch

    module_name, name = architecture.scheme, architecture.name
    if not any(module_name == one or module_name.startswith(f"{one}.") for one in trust.modules):
        allowed = ", ".join(trust.modules) or "no package"
        raise UnsafeCheckpoint(
            f"Importing {module_name} would run its code. The operator allows {allowed} "
            "(EXPORT_ALLOWED_MODULES).",
            allowed=list(trust.modules),
        )
    try:
        found = getattr(import_module(module_name), name, None)
    except ImportError as exc:
        raise _refused(f"{module_name} cannot be imported in the worker: {str(exc)[:200]}.", None) from exc
    if not isinstance(found, type) or not issubclass(found, torch.nn.Module):
        raise _refused(f"{module_name} has no torch.nn.Module with the name {name}.", None)
    module = _make(f"{module_name}:{name}", lambda: found(**architecture.arguments))
    load_weights(module, weights, f"{module_name}:{name}")
    parameters = [
        parameter.name
        for parameter in inspect.signature(module.forward).parameters.values()
        if parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    return Network(module.eval(), parse_inputs(options.get("inputs"), parameters, f"{module_name}:{name}"))


def _make(name: str, create: Callable[[], Any]) -> Any:
    """Create the network with a fixed seed: a buffer that no checkpoint stores may be random."""
    import torch

    torch.manual_seed(0)
    try:
        return create()
    except Exception as exc:
        raise as_limit(exc) or _refused(
            f"{name} cannot be created with these arguments: {str(exc).strip()[:300]}", None
        ) from exc


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _refused(message: str, allowed: Any) -> UnsupportedOption:
    return UnsupportedOption(message, allowed=allowed, option="architecture")
