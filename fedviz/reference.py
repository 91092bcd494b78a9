"""References by name: the dataset's own, and the architectures that fedviz knows."""

from __future__ import annotations

from fedviz.analysis.check import Reference, reference_signature
from fedviz.dataset import WeightDataset
from fedviz.errors import UnknownNameError, located
from fedviz.training.architectures import ARCHITECTURES, architecture

__all__ = ["resolve_reference"]


def resolve_reference(dataset: WeightDataset, name: str) -> Reference:
    """What a name stands for, as the command and the dashboard take it.

    Parameters
    ----------
    dataset : WeightDataset
        What is to be checked.
    name : str
        ``server``, ``majority``, the id of a client, the path of a file with weights, or the name
        of an architecture; the first that there is, in this order.

    Raises
    ------
    UnknownNameError
        It is none of these.
    """
    try:
        return Reference(name, reference_signature(dataset, name))
    except UnknownNameError:
        if name in ARCHITECTURES:
            return Reference(name, architecture(name).signature)
        raise UnknownNameError(
            located(
                f"there is no reference {name}; expected server, majority, the id of a client, "
                f"a file with weights, or an architecture ({', '.join(ARCHITECTURES)})",
                file=dataset.path,
            )
        ) from None
