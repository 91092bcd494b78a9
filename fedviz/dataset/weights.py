"""Models of a round, whose tensors are read when they are asked for."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from fedviz import hdf5_format as layout
from fedviz.records import ClientRecord
from fedviz.signature import Signature, TensorSpec

if TYPE_CHECKING:
    from fedviz.dataset.rounds import Round

__all__ = ["Aggregate", "ClientWeights", "WeightMap"]


class WeightMap(Mapping[str, np.ndarray]):
    """Weights by tensor name, each read from the file when it is asked for.

    ``owner`` is the round that they belong to.
    """

    def __init__(self, owner: Round, group: h5py.Group, signature: Signature) -> None:
        self.owner = owner
        self._group = group
        self.signature = signature

    def __iter__(self) -> Iterator[str]:
        return iter(self.signature.names)

    def __len__(self) -> int:
        return len(self.signature)

    def __contains__(self, name: object) -> bool:
        return name in self.signature

    def __getitem__(self, name: str) -> np.ndarray:
        spec = self.signature[name]
        with self.owner.damage_reported(f"tensor {name} of {self._describe()}"):
            return self._read(spec, layout.tensor_key(self.signature.index(name)))

    def window(self, name: str, region: Sequence[slice]) -> np.ndarray:
        """A part of a tensor, read without the rest of it.

        Parameters
        ----------
        name : str
            Tensor.
        region : sequence of slice
            One for each axis of the tensor, without a step.

        Returns
        -------
        ndarray in the tensor's own dtype
        """
        spec = self.signature[name]
        with self.owner.damage_reported(f"tensor {name} of {self._describe()}"):
            return self._read_window(spec, layout.tensor_key(self.signature.index(name)), region)

    def _read(self, spec: TensorSpec, key: str) -> np.ndarray:
        dataset = layout.checked_tensor(self._group, key, spec.shape, spec.numpy_dtype)
        return layout.read_rows(dataset, spec.numpy_dtype, None)

    def _read_window(self, spec: TensorSpec, key: str, region: Sequence[slice]) -> np.ndarray:
        dataset = layout.checked_tensor(self._group, key, spec.shape, spec.numpy_dtype)
        return layout.read_region(dataset, spec.numpy_dtype, region)

    def _describe(self) -> str:
        return self._group.name.removeprefix("/rounds/")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._describe()}, {self.signature})"


class ClientWeights(WeightMap):
    """One client's weights in one round."""

    def __init__(
        self, owner: Round, group: h5py.Group, signature: Signature, record: ClientRecord
    ) -> None:
        super().__init__(owner, group, signature)
        self.record = record

    def _read(self, spec: TensorSpec, key: str) -> np.ndarray:
        if self.record.row is None:
            return super()._read(spec, key)
        row = self.record.row
        return self.owner.read_stack(spec.name, slice(row, row + 1))[0]

    def _read_window(self, spec: TensorSpec, key: str, region: Sequence[slice]) -> np.ndarray:
        if self.record.row is None:
            return super()._read_window(spec, key, region)
        row = self.record.row
        return self.owner.read_stack_window(spec.name, slice(row, row + 1), region)[0]

    def _describe(self) -> str:
        return f"client {self.record.id}"


class Aggregate(WeightMap):
    """What an aggregator made of a round's clients."""

    def __init__(self, owner: Round, group: h5py.Group, signature: Signature, name: str) -> None:
        super().__init__(owner, group, signature)
        self.name = name

    @property
    def aggregator(self) -> str:
        """The rule that made it."""
        return self._attribute("aggregator")

    @property
    def weighting(self) -> str:
        """``num_examples`` or ``uniform``."""
        return self._attribute("weighting")

    def _attribute(self, name: str) -> str:
        with self.owner.damage_reported(f"the {name} of {self._describe()}"):
            return layout.read_text_attribute(self._group, name) or ""

    @functools.cached_property
    def parameters(self) -> dict[str, Any]:
        """The aggregator's parameters."""
        return self._json("parameters")

    @functools.cached_property
    def measurements(self) -> dict[str, Any]:
        """What was measured while it was made."""
        return self._json("measurements")

    def _json(self, name: str) -> dict[str, Any]:
        with self.owner.damage_reported(f"the {name} of {self._describe()}"):
            return layout.read_json(self._group, name)

    def _describe(self) -> str:
        return f"aggregate {self.name}"
