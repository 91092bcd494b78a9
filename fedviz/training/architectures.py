"""The architectures that fedviz builds itself, known without importing TensorFlow.

What each one consists of stands in ``architectures.json``, which
``python -m fedviz.training.build_table`` writes from the Keras models; a test compares the two.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType
from typing import Any

from fedviz.errors import UnknownNameError
from fedviz.signature import Signature, TensorSpec

__all__ = ["ABOUT", "ARCHITECTURES", "About", "Architecture", "LayerRow", "architecture"]


@dataclass(frozen=True)
class About:
    """What is said of an architecture, and the built-in data that it fits."""

    description: str
    reference: str = ""
    data: tuple[str, ...] = ()


@dataclass(frozen=True)
class LayerRow:
    """One layer of a model: a row of the layers' table.

    ``tensors`` are the names of its tensors; ``output_shape`` is without the batch.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    tensors: tuple[str, ...]
    num_parameters: int


@dataclass(frozen=True)
class Architecture:
    """A model that fedviz can build.

    ``input_shape`` is without the batch. The model ends in ``outputs`` logits, without a softmax.
    ``reference`` is empty where the architecture is nobody's in particular, and ``data`` where
    none of the built-in data fits.
    """

    name: str
    description: str
    reference: str
    data: tuple[str, ...]
    task: str
    input_shape: tuple[int, ...]
    outputs: int
    signature: Signature
    layers: tuple[LayerRow, ...]

    @property
    def num_parameters(self) -> int:
        """Number of values in all tensors, trainable or not."""
        return self.signature.num_parameters

    @property
    def num_classes(self) -> int:
        """The classes that the model tells apart: its outputs."""
        return self.outputs


_MCMAHAN = (
    "McMahan et al., Communication-Efficient Learning of Deep Networks from Decentralized Data, "
    "AISTATS 2017, section 3"
)
_DIGITS = ("digits",)

ABOUT: Mapping[str, About] = MappingProxyType(
    {
        "dense": About("Two dense layers, 5 → 10 → 2: small enough to read every weight"),
        "logistic-regression": About("One dense layer on 28 × 28 pixels, 784 → 10: convex"),
        "mnist-mlp": About(
            "The 2NN: two hidden layers of 200 units on 28 × 28 pixels", reference=_MCMAHAN
        ),
        "mnist-cnn": About(
            "Two 5 × 5 convolutions (32, 64) with pooling, 512 units, on 28 × 28 pixels",
            reference=_MCMAHAN,
        ),
        "digits-mlp": About("One hidden layer of 32 units on 8 × 8 pixels", data=_DIGITS),
        "digits-cnn": About(
            "Two 3 × 3 convolutions (16, 32) with pooling on 8 × 8 pixels", data=_DIGITS
        ),
        "digits-resnet": About(
            "Two residual blocks with batch normalisation, whose moving statistics are tensors "
            "that no optimizer trains, on 8 × 8 pixels",
            reference="He et al., Deep Residual Learning for Image Recognition, CVPR 2016",
            data=_DIGITS,
        ),
        "lstm": About(
            "An LSTM of 32 units that reads an image of 8 × 8 pixels row by row",
            reference="Hochreiter and Schmidhuber, Long Short-Term Memory, 1997",
            data=_DIGITS,
        ),
        "transformer": About(
            "One encoder block with 2 heads of attention over the 8 rows of an image",
            reference="Vaswani et al., Attention Is All You Need, NeurIPS 2017",
            data=_DIGITS,
        ),
    }
)
"""What is said of each architecture, in the order in which they are listed."""


def architecture(name: str) -> Architecture:
    """Look up the architecture of that name.

    Raises
    ------
    UnknownNameError
        There is none.
    """
    try:
        return ARCHITECTURES[name]
    except KeyError:
        raise UnknownNameError(
            f"there is no architecture {name!r}; there are {', '.join(ARCHITECTURES)}"
        ) from None


def _read_table() -> Mapping[str, Architecture]:
    text = resources.files(__package__).joinpath("architectures.json").read_text("utf-8")
    table = json.loads(text)
    return MappingProxyType(
        {name: _from_row(name, ABOUT[name], table[name]) for name in ABOUT if name in table}
    )


def _from_row(name: str, about: About, row: Mapping[str, Any]) -> Architecture:
    return Architecture(
        name=name,
        description=about.description,
        reference=about.reference,
        data=about.data,
        task="classification",
        input_shape=tuple(row["input_shape"]),
        outputs=row["outputs"],
        signature=Signature(
            tuple(
                TensorSpec(t["name"], tuple(t["shape"]), t["dtype"], t["trainable"])
                for t in row["tensors"]
            )
        ),
        layers=tuple(
            LayerRow(
                layer["name"],
                layer["kind"],
                tuple(layer["output_shape"]),
                tuple(layer["tensors"]),
                layer["num_parameters"],
            )
            for layer in row["layers"]
        ),
    )


ARCHITECTURES: Mapping[str, Architecture] = _read_table()
"""All architectures by name, in the order of ``ABOUT``."""
