"""How Keras names the variables of its layers, for files that only number them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = [
    "KINDS_WITH_VARIABLES",
    "LayerConfig",
    "child_layers",
    "layer_configs",
    "snake_case",
    "variable_names",
]

_KERNEL = ("kernel", "bias")
_VARIABLES: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("dense", "einsum_dense"), _KERNEL),
    **dict.fromkeys((f"conv{n}d" for n in (1, 2, 3)), _KERNEL),
    **dict.fromkeys((f"conv{n}d_transpose" for n in (1, 2, 3)), _KERNEL),
    **dict.fromkeys((f"depthwise_conv{n}d" for n in (1, 2)), ("depthwise_kernel", "bias")),
    **dict.fromkeys(
        (f"separable_conv{n}d" for n in (1, 2)), ("depthwise_kernel", "pointwise_kernel", "bias")
    ),
    "embedding": ("embeddings",),
    **dict.fromkeys(
        ("lstm_cell", "gru_cell", "simple_rnn_cell"), ("kernel", "recurrent_kernel", "bias")
    ),
    "batch_normalization": ("gamma", "beta", "moving_mean", "moving_variance"),
    "layer_normalization": ("gamma", "beta"),
    "group_normalization": ("gamma", "beta"),
    "p_re_lu": ("alpha",),
}
_LEFT_OUT_BY: Mapping[str, str] = {
    "bias": "use_bias",
    "gamma": "scale",
    "beta": "center",
}
_RECURRENT = ("lstm", "gru", "simple_rnn")
_ATTENTION = {
    "query_dense": "query",
    "key_dense": "key",
    "value_dense": "value",
    "output_dense": "attention_output",
}
KINDS_WITH_VARIABLES = frozenset(
    {
        *_VARIABLES,
        *_RECURRENT,
        *("rnn", "stacked_rnn_cells", "conv_lstm1d", "conv_lstm2d", "conv_lstm3d"),
        *("bidirectional", "time_distributed", "multi_head_attention", "group_query_attention"),
        *("attention", "additive_attention", "normalization", "unit_normalization"),
        *("rms_normalization", "spectral_normalization", "sequential", "functional", "model"),
        *("locally_connected1d", "locally_connected2d"),
    }
)
"""Keras's own layers and models, as it names them of itself, which have variables."""


@dataclass(frozen=True)
class LayerConfig:
    """A layer as a model's config describes it; ``config`` is empty where there is none."""

    kind: str
    name: str
    config: Mapping[str, Any]

    @property
    def trainable(self) -> bool | None:
        """Whether the layer is trained, where the config says it."""
        value = self.config.get("trainable")
        return value if isinstance(value, bool) else None


def snake_case(name: str) -> str:
    """A class's name as Keras makes the names of groups of it: ``Conv2D`` → ``conv2d``."""
    name = re.sub(r"\W+", "", name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def layer_configs(config: Mapping[str, Any]) -> list[LayerConfig]:
    """The layers that a Functional or Sequential config lists, in their order."""
    nodes = config.get("layers")
    layers = [_layer(node) for node in nodes] if isinstance(nodes, Sequence) else []
    return [layer for layer in layers if layer is not None]


def _layer(node: Any) -> LayerConfig | None:
    if not isinstance(node, Mapping) or not isinstance(node.get("class_name"), str):
        return None
    config = node.get("config")
    config = config if isinstance(config, Mapping) else {}
    name = config.get("name", node.get("name"))
    kind = snake_case(node["class_name"])
    return LayerConfig(kind, name if isinstance(name, str) and name else kind, config)


def child_layers(layer: LayerConfig, full_paths: bool) -> dict[str, LayerConfig]:
    """Groups inside a layer's group, in the order of its variables, as layers of their own.

    A name of "" adds nothing to the variables' path: Keras 2 leaves out that of a wrapped layer,
    Keras 3 (``full_paths``) does not.
    """
    if layer.kind in _RECURRENT:
        cell = f"{layer.kind}_cell"
        return {"cell": LayerConfig(cell, cell, layer.config)}
    if layer.kind == "multi_head_attention":
        # Until Keras 3.9 the groups' names began with an underscore.
        return {
            f"{hidden}{group}": LayerConfig("einsum_dense", name, layer.config)
            for hidden in ("", "_")
            for group, name in _ATTENTION.items()
        }
    inner = _layer(layer.config.get("layer"))
    if inner is None:
        return {}
    if layer.kind == "bidirectional":
        # Keras 3 lists the wrapped layer under its new name, Keras 2 under the one it was given.
        name = inner.name.removeprefix("forward_")
        return {
            f"{way}_layer": LayerConfig(inner.kind, f"{way}_{name}", inner.config)
            for way in ("forward", "backward")
        }
    return {"layer": LayerConfig(inner.kind, inner.name if full_paths else "", inner.config)}


def variable_names(layer: LayerConfig, count: int) -> list[str]:
    """What a layer's numbered variables are called; their numbers where that is not certain.

    Parameters
    ----------
    layer : LayerConfig
        Its config may say that it has no bias, scale or centre.
    count : int
        How many variables the file has for it.

    Returns
    -------
    list of str
        ``count`` names.
    """
    usual = _VARIABLES.get(layer.kind, ())
    expected = [n for n in usual if layer.config.get(_LEFT_OUT_BY.get(n, "")) is not False]
    # Without a config: the bias comes last, and is the one that is usually left out.
    if not layer.config and usual[-1:] == ("bias",) and count == len(usual) - 1:
        expected = list(usual[:-1])
    return expected if len(expected) == count else [str(i) for i in range(count)]
