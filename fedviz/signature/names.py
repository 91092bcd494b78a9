"""What variables are called by the libraries that save them, and what is the same under it all."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from fedviz.signature.specs import TensorSpec

__all__ = [
    "is_auxiliary",
    "is_batch_statistic",
    "is_bias",
    "is_counter",
    "is_optimizer_slot",
    "is_pytorch_name",
    "layer_of",
    "name_parts",
    "role",
    "unnumbered",
]

_SEPARATOR = re.compile(r"[/.]")
# Keras 1 writes the variable behind the layer's number: dense_1_W.
_NUMBER = re.compile(r"_\d+(?=$|_(?:[wub]|gamma|beta|running_mean|running_std|[wub]_[a-z])$)")

_ROLES: Mapping[str, str] = MappingProxyType(
    {
        "kernel": "weight",
        "gamma": "weight",
        "embeddings": "weight",
        "beta": "bias",
        "running_mean": "moving_mean",
        "running_var": "moving_variance",
    }
)
"""One word for what Keras and PyTorch call differently."""

_PYTORCH_LEAVES = frozenset(
    {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
)
_BATCH_STATISTICS = frozenset({"moving_mean", "moving_variance"})
_OPTIMIZER_PARTS = frozenset(
    {
        *("optimizer", "optimizer_weights", "training_config", "optimizer_state"),
        *("adam", "adamw", "adamax", "nadam", "adagrad", "adadelta", "rmsprop", "sgd", "ftrl"),
        *("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer", "square_avg"),
    }
)
# Keras 2.14 puts these before the path of the weight that they belong to.
_OPTIMIZER_STARTS = frozenset({"m", "v", "momentum", "velocity", "accumulator"})
_OPTIMIZER_ENDINGS = ("_momentum", "_velocity")


def name_parts(name: str) -> tuple[str, ...]:
    """The parts of a variable path, lower case, without TensorFlow's ``:0``.

    >>> name_parts("module.fc1.weight"), name_parts("Dense/kernel:0")
    (('module', 'fc1', 'weight'), ('dense', 'kernel'))
    """
    return tuple(_SEPARATOR.split(name.removesuffix(":0").lower()))


def role(name: str) -> str:
    """What a tensor is in its layer: ``weight``, ``bias``, ``moving_mean`` and so on."""
    leaf = name_parts(name)[-1]
    return _ROLES.get(leaf, leaf)


def layer_of(name: str) -> str:
    """The path without its last part; empty for a name of one part."""
    cut = max(name.rfind("/"), name.rfind("."))
    return name[:cut] if cut > 0 else ""


def unnumbered(name: str) -> tuple[str, ...]:
    """The parts of a name without the numbers that libraries append: ``dense_1`` is ``dense``."""
    return tuple(_NUMBER.sub("", part) for part in name_parts(name))


def is_pytorch_name(name: str) -> bool:
    """Whether a name is written as ``state_dict()`` writes it, ``fc1.weight``."""
    return "." in name and "/" not in name and name_parts(name)[-1] in _PYTORCH_LEAVES


def is_bias(name: str) -> bool:
    """Whether a tensor is what a layer adds."""
    return role(name) == "bias"


def is_batch_statistic(name: str) -> bool:
    """Whether a tensor is a running mean or variance, which moves without an optimizer."""
    return role(name) in _BATCH_STATISTICS


def is_optimizer_slot(name: str) -> bool:
    """Whether a tensor belongs to an optimizer: Adam's moments, a momentum."""
    parts = name_parts(name)
    if len(parts) > 2 and parts[0] in _OPTIMIZER_STARTS:
        return True
    return not _OPTIMIZER_PARTS.isdisjoint(parts) or parts[-1].endswith(_OPTIMIZER_ENDINGS)


def is_counter(spec: TensorSpec) -> bool:
    """Whether a tensor counts: one integer."""
    return spec.size == 1 and not spec.is_float and spec.dtype != "bool"


def is_auxiliary(spec: TensorSpec) -> bool:
    """Whether a tensor is no weight: libraries save such ones or not, and the places shift."""
    return is_counter(spec) or is_optimizer_slot(spec.name)
