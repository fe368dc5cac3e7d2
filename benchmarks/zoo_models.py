"""The models of the zoo: real architectures with random weights, saved the way their users save them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

IMAGE = 64  # pixels a side where the architecture lets us choose


@dataclass(frozen=True)
class Model:
    """``save(folder)`` leaves the checkpoint, a file or a folder, and returns its path."""

    name: str
    group: str
    save: Callable[[Path], Path]
    options: Mapping[str, Any] = field(default_factory=dict)


def models() -> list[Model]:
    return [*_timm(), *_hugging_face(), *_ultralytics(), *_recurrent(), *_estimators()]


# Networks of images, and the size that is the only one they take.
TIMM = {
    "resnet18": None,
    "resnet50": None,
    "mobilenetv2_050": None,
    "mobilenetv3_small_050": None,
    "efficientnet_lite0": None,
    "convnext_atto": None,
    "regnetx_002": None,
    "ghostnet_050": None,
    "mnasnet_small": None,
    "repvgg_a0": None,
    "edgenext_xx_small": None,
    "mobilevit_xxs": None,
    "poolformer_s12": None,
    "vit_tiny_patch16_224": 224,
    "mixer_s32_224": 224,
}


def _timm() -> list[Model]:
    found = []
    for name, size in TIMM.items():
        side = size or IMAGE
        inputs = [{"name": "x", "shape": ["batch", 3, side, side], "dtype": "float32"}]
        options = {"architecture": f"timm:{name}", "inputs": inputs}
        found.append(Model(name, "timm", partial(_save_timm, name), options))
    return found


def _save_timm(name: str, folder: Path) -> Path:
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    path = folder / "model.safetensors"
    network = timm.create_model(name, pretrained=False)
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():  # else whole branches would count for nothing, and be folded away
                parameter.uniform_(0.1, 0.5)
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, path)
    return path


_SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
_TEXT = {**_SMALL, "vocab_size": 99, "max_position_embeddings": 64}
_VISION = {**_SMALL, "image_size": 32, "patch_size": 8}
_SPEECH = {
    **_SMALL,
    "conv_dim": (16, 16),
    "conv_kernel": (10, 3),
    "conv_stride": (5, 2),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
    "vocab_size": 32,
}
# Class → the arguments of its configuration.
HUGGING_FACE: dict[str, dict[str, Any]] = {
    "BertForSequenceClassification": _TEXT,
    "DistilBertForSequenceClassification": {
        "dim": 32,
        "n_layers": 2,
        "n_heads": 4,
        "hidden_dim": 64,
        "vocab_size": 99,
    },
    "RobertaForMaskedLM": {**_TEXT, "pad_token_id": 1},
    "ElectraForTokenClassification": {**_TEXT, "embedding_size": 32},
    "MPNetModel": _TEXT,
    "AlbertModel": {**_TEXT, "embedding_size": 16},
    "T5EncoderModel": {
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 64,
        "num_layers": 2,
        "num_heads": 4,
        "vocab_size": 99,
    },
    "GPT2LMHeadModel": {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 99, "n_positions": 64},
    "OPTForCausalLM": {
        **_SMALL,
        "ffn_dim": 64,
        "vocab_size": 99,
        "word_embed_proj_dim": 32,
        "max_position_embeddings": 64,
    },
    "LlamaForCausalLM": {**_TEXT, "num_key_value_heads": 2},
    "Qwen2ForCausalLM": {**_TEXT, "num_key_value_heads": 2},
    "ViTForImageClassification": _VISION,
    "Dinov2Model": _VISION,
    "SegformerForSemanticSegmentation": {
        "hidden_sizes": [8, 16, 24, 32],
        "depths": [1, 1, 1, 1],
        "num_attention_heads": [1, 1, 2, 2],
        "decoder_hidden_size": 32,
        "num_labels": 4,
    },
    "Wav2Vec2ForCTC": _SPEECH,
}


def _hugging_face() -> list[Model]:
    return [
        Model(name, "Hugging Face", partial(_save_hugging_face, name, arguments))
        for name, arguments in HUGGING_FACE.items()
    ]


def _save_hugging_face(name: str, arguments: dict[str, Any], folder: Path) -> Path:
    import torch
    import transformers

    torch.manual_seed(0)
    network = getattr(transformers, name)
    network(network.config_class(**arguments)).eval().save_pretrained(folder)
    return folder


ULTRALYTICS = ("yolo11n", "yolo11n-seg", "yolo11n-cls", "yolo11n-pose")


def _ultralytics() -> list[Model]:
    return [Model(name, "Ultralytics", partial(_save_ultralytics, name)) for name in ULTRALYTICS]


def _save_ultralytics(name: str, folder: Path) -> Path:
    import torch
    from ultralytics import YOLO

    torch.manual_seed(0)
    path = folder / f"{name}.pt"
    network = YOLO(f"{name}.yaml")
    network.model.args = {**network.model.args, "imgsz": 160}
    network.save(str(path))
    return path


RECURRENT = ("LSTM", "GRU", "RNN", "bidirectional LSTM", "two GRUs")


def _recurrent() -> list[Model]:
    return [Model(name, "torch", partial(_save_recurrent, name)) for name in RECURRENT]


def _save_recurrent(name: str, folder: Path) -> Path:
    import torch
    from torch import nn

    class Net(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            kind = {"bidirectional LSTM": "LSTM", "two GRUs": "GRU"}.get(name, name)
            both = name == "bidirectional LSTM"
            layers = 2 if name == "two GRUs" else 1
            self.cells = getattr(nn, kind)(12, 16, layers, batch_first=True, bidirectional=both)
            self.head = nn.Linear(32 if both else 16, 5)

        def forward(self, x: Any) -> Any:
            return self.head(self.cells(x)[0][:, -1])

    torch.manual_seed(0)
    path = folder / "model.pt2"
    shapes = {"x": {0: torch.export.Dim("batch")}}
    torch.export.save(
        torch.export.export(Net().eval(), (torch.randn(2, 9, 12),), dynamic_shapes=shapes), path
    )
    return path


# Class → arguments; the library is the module's first name.
ESTIMATORS: dict[str, dict[str, Any]] = {
    "sklearn.linear_model.LogisticRegression": {},
    "sklearn.linear_model.Ridge": {},
    "sklearn.ensemble.RandomForestClassifier": {"n_estimators": 20},
    "sklearn.ensemble.RandomForestRegressor": {"n_estimators": 20},
    "sklearn.ensemble.ExtraTreesClassifier": {"n_estimators": 20},
    "sklearn.ensemble.GradientBoostingClassifier": {"n_estimators": 20},
    "sklearn.ensemble.HistGradientBoostingClassifier": {"max_iter": 20},
    "sklearn.svm.SVC": {"probability": True},
    "sklearn.neighbors.KNeighborsClassifier": {},
    "sklearn.neural_network.MLPClassifier": {"hidden_layer_sizes": (32,), "max_iter": 50},
    "sklearn.naive_bayes.GaussianNB": {},
    "sklearn.tree.DecisionTreeClassifier": {},
    "xgboost.XGBClassifier": {"n_estimators": 20},
    "xgboost.XGBRegressor": {"n_estimators": 20},
    "lightgbm.LGBMClassifier": {"n_estimators": 20, "verbose": -1},
    "lightgbm.LGBMRegressor": {"n_estimators": 20, "verbose": -1},
}


def _estimators() -> list[Model]:
    return [
        Model(name.split(".")[-1], name.split(".")[0], partial(_save_estimator, name, arguments))
        for name, arguments in ESTIMATORS.items()
    ]


def _save_estimator(name: str, arguments: dict[str, Any], folder: Path) -> Path:
    from importlib import import_module

    from sklearn.datasets import load_breast_cancer, load_diabetes

    module, _, kind = name.rpartition(".")
    estimator = getattr(import_module(module), kind)(**arguments)
    is_regressor = kind.endswith("Regressor") or kind == "Ridge"
    rows, target = (load_diabetes if is_regressor else load_breast_cancer)(return_X_y=True)
    if "random_state" in estimator.get_params():
        estimator.set_params(random_state=0)
    estimator.fit(rows, target)
    if module == "xgboost":
        path = folder / "model.json"
        estimator.save_model(path)
    elif module == "lightgbm":
        path = folder / "model.txt"
        estimator.booster_.save_model(path)
    else:
        import skops.io

        path = folder / "model.skops"
        skops.io.dump(estimator, path)
    return path
