"""Injecting faults into the clients of a whole dataset, round by round."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from fedviz.errors import InvalidArgumentError, UnknownNameError
from fedviz.records import FaultKind, InjectedFault
from fedviz.signature import Signature
from fedviz.synthesis.attacks import HonestClients
from fedviz.synthesis.collusion import check_collusion
from fedviz.synthesis.fault import Fault, is_colluding, is_structural, parse_fault
from fedviz.synthesis.faults import apply_fault
from fedviz.synthesis.perturb import client_rng
from fedviz.synthesis.structure import faulty_signature

__all__ = ["FaultInjection", "faults_by_client"]

# Spawn keys of random streams, beside those of the rounds, which count from 0.
_FAULT_STREAM = 2**31 + 1
_NOISE_STREAM = 2**31 + 2


def faults_by_client(
    texts: Sequence[str], clients: Sequence[str], *, trains: bool
) -> dict[str, list[Fault]]:
    """The faults that texts name, of each client that has any.

    Parameters
    ----------
    texts : sequence of str
        ``CLIENT:KIND[:ARG]`` each.
    clients : sequence of str
        All ids of the cohort.
    trains : bool
        Whether the clients train, so that labels can be flipped.

    Raises
    ------
    InvalidArgumentError, UnknownNameError
        A fault that there is not, or not in this cohort.
    """
    faults: dict[str, list[Fault]] = {}
    for fault in map(parse_fault, texts):
        if fault.client not in clients:
            raise UnknownNameError(
                f"fault {fault}: there is no client {fault.client}; there are {clients[0]} to "
                f"{clients[-1]}."
            )
        if fault.kind is FaultKind.LABEL_FLIP and not trains:
            raise InvalidArgumentError(
                f"fault {fault}: labels are flipped before training; choose the mode train."
            )
        faults.setdefault(fault.client, []).append(fault)
    check_collusion(faults, len(clients))
    return faults


class FaultInjection:
    """Faults that are applied to the clients of a dataset; gathers the ground truth.

    Parameters
    ----------
    texts, clients, trains
        As in :func:`faults_by_client`.
    signature : Signature
        Of the clients without faults.
    seed : int
        Decides which cells are hit and what noise is drawn.
    """

    def __init__(
        self,
        texts: Sequence[str],
        clients: Sequence[str],
        signature: Signature,
        seed: int,
        *,
        trains: bool,
    ) -> None:
        self._seed = seed
        self._clients = clients
        self._signature = signature
        self._by_client = faults_by_client(texts, clients, trains=trains)
        self._records: dict[tuple[str, int], InjectedFault] = {}
        self.signatures = {c: self._signature_of(c) for c in clients}

    def _signature_of(self, client: str) -> Signature | None:
        faults = self._by_client.get(client, [])
        if not any(is_structural(fault.kind) for fault in faults):
            return None
        signature = self._signature
        for fault in faults:
            signature = faulty_signature(fault, signature)
        return signature

    def apply(
        self,
        client: str,
        weights: Sequence[np.ndarray],
        server: Sequence[np.ndarray],
        number: int,
        honest: HonestClients | None = None,
    ) -> dict[str, np.ndarray]:
        """A client's weights by name in a round, with its faults in them."""
        faulty = dict(zip(self._signature.names, weights, strict=True))
        before = dict(zip(self._signature.names, server, strict=True))
        index = self._clients.index(client)
        # The same cells in every round: the ground truth is one for all of them.
        cells = client_rng(self._seed, _FAULT_STREAM, index)
        for position, fault in enumerate(self._by_client.get(client, [])):
            noisy = fault.kind is FaultKind.GAUSSIAN
            rng = client_rng(self._seed, _NOISE_STREAM + number, index) if noisy else cells
            faulty, record = apply_fault(fault, faulty, before, rng, honest)
            self._records.setdefault((client, position), record)
        return faulty

    @property
    def colluding(self) -> frozenset[str]:
        """Clients that need to know what the honest ones submit."""
        return frozenset(
            client
            for client, faults in self._by_client.items()
            if any(is_colluding(fault.kind) for fault in faults)
        )

    def honest(self, clients: Iterable[tuple[str, Sequence[np.ndarray]]]) -> HonestClients | None:
        """What attackers learn from the clients without a fault; None where nobody colludes."""
        if not self.colluding:
            return None
        found = HonestClients(len(self._clients), len(self.colluding))
        for client, weights in clients:
            if client not in self._by_client:
                found = found.and_of(dict(zip(self._signature.names, weights, strict=True)))
        return found

    def corrupt(
        self, number: int, clients: Sequence[list[np.ndarray]], server: list[np.ndarray]
    ) -> list[list[np.ndarray] | None]:
        """What each client submits during training; None where it cannot be averaged."""
        honest = self.honest(zip(self._clients, clients, strict=True))
        return [
            list(self.apply(client, weights, server, number, honest).values())
            if self.signatures[client] is None
            else None
            for client, weights in zip(self._clients, clients, strict=True)
        ]

    @property
    def flipped(self) -> frozenset[int]:
        """Indices of the clients whose labels are flipped before training."""
        return frozenset(
            i
            for i, client in enumerate(self._clients)
            if any(f.kind is FaultKind.LABEL_FLIP for f in self._by_client.get(client, []))
        )

    @property
    def ground_truth(self) -> list[InjectedFault]:
        """What was injected, in the clients' order."""
        return [self._records[key] for key in sorted(self._records)]
