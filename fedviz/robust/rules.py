"""The rules by name, with what is to be said of each."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedviz.analysis.stacks import Stacks
from fedviz.errors import UnknownNameError
from fedviz.parameters import Parameter, Rule
from fedviz.progress import ProgressCallback, silent
from fedviz.robust.bulyan import bulyan, minimum_cohort_of_bulyan
from fedviz.robust.clients import RobustResult
from fedviz.robust.clipping import BOUND, norm_bounded_mean
from fedviz.robust.geometric_median import MAX_ITERATIONS, SMOOTHING, TOLERANCE, geometric_median
from fedviz.robust.krum import CHOSEN, FAULTY, krum, minimum_cohort_of_krum, multi_krum
from fedviz.robust.order_statistics import TRIM, median, trimmed_mean
from fedviz.robust.proximal import PULL, proximal_mean
from fedviz.robust.server_updates import OPTIMISERS, first_server_update

__all__ = ["RULES", "RobustRule", "aggregate"]


@dataclass(frozen=True, kw_only=True)
class RobustRule(Rule):
    """One rule.

    Parameters
    ----------
    compute : callable
        From the stacks, the clients' weights, the server model, a progress callback and the
        parameters by keyword.
    over_rounds : bool, default False
        Whether the rounds before count too; ``compute`` then starts from rest, and
        :func:`fedviz.robust.run_server_updates` takes them in.
    """

    compute: Callable[..., RobustResult]
    over_rounds: bool = False


def _value(parameter: Parameter, given: Mapping[str, Any]) -> Any:
    return given.get(parameter.name, parameter.default)


def _cohort_of_trimmed_mean(given: Mapping[str, Any]) -> int:
    value = TRIM.number(_value(TRIM, given))
    return 2 * int(value) + 1 if value >= 1 else 1


def _cohort_of_krum(given: Mapping[str, Any]) -> int:
    return minimum_cohort_of_krum(FAULTY.integer(_value(FAULTY, given)))


def _cohort_of_multi_krum(given: Mapping[str, Any]) -> int:
    f, m = FAULTY.integer(_value(FAULTY, given)), _value(CHOSEN, given)
    return minimum_cohort_of_krum(f, 1 if m in CHOSEN.words else CHOSEN.integer(m))


def _cohort_of_bulyan(given: Mapping[str, Any]) -> int:
    return minimum_cohort_of_bulyan(FAULTY.integer(_value(FAULTY, given)))


_YIN = (
    "Yin, Chen, Kannan and Bartlett, Byzantine-Robust Distributed Learning: Towards Optimal "
    "Statistical Rates, ICML 2018"
)
_BLANCHARD = (
    "Blanchard, El Mhamdi, Guerraoui and Stainer, Machine Learning with Adversaries: Byzantine "
    "Tolerant Gradient Descent, NeurIPS 2017"
)
_REDDI = "Reddi et al., Adaptive Federated Optimization, ICLR 2021"
_NOTHING = "nothing: it changes the step that is made of the mean, and the mean follows any client"

_RULES = (
    RobustRule(
        name="median",
        title="Coordinate-wise median",
        description="the middle of the clients' values, cell by cell",
        formula="x[j] = median of x_1[j] … x_n[j]",
        source=_YIN,
        protects_against="arbitrary values, NaN among them, of fewer than half of the clients",
        compute=median,
        weighted=False,
    ),
    RobustRule(
        name="trimmed-mean",
        title="Trimmed mean",
        description="the mean without the smallest and the largest values, cell by cell",
        formula="x[j] = mean of x_(k+1)[j] … x_(n−k)[j] in order of size",
        source=_YIN,
        protects_against="arbitrary values of up to k clients, NaN among them",
        compute=trimmed_mean,
        weighted=False,
        parameters=(TRIM,),
        cohort="n ≥ 2k + 1",
        minimum_cohort=_cohort_of_trimmed_mean,
    ),
    RobustRule(
        name="krum",
        title="Krum",
        description="the one client whose neighbours are nearest, unchanged",
        formula="x = x_i with the smallest sum of ‖x_i − x_j‖² over its n − f − 2 nearest j",
        source=_BLANCHARD,
        protects_against="f clients that send anything, together or alone",
        compute=krum,
        weighted=False,
        parameters=(FAULTY,),
        cohort="n ≥ 2f + 3",
        minimum_cohort=_cohort_of_krum,
    ),
    RobustRule(
        name="multi-krum",
        title="Multi-Krum",
        description="the mean of the m clients with the best Krum scores",
        formula="x = Σ w_i x_i / Σ w_i over the m clients with the smallest Krum scores",
        source=_BLANCHARD,
        protects_against="f clients that send anything, as long as m ≤ n − f",
        compute=multi_krum,
        parameters=(FAULTY, CHOSEN),
        cohort="n ≥ 2f + 3 and n ≥ m",
        minimum_cohort=_cohort_of_multi_krum,
    ),
    RobustRule(
        name="bulyan",
        title="Bulyan",
        description="Krum chooses n − 2f clients; near their median values are averaged",
        formula="x[j] = mean of the n − 4f values nearest to the median of the chosen, in cell j",
        source=(
            "El Mhamdi, Guerraoui and Rouault, The Hidden Vulnerability of Distributed Learning in "
            "Byzantium, ICML 2018"
        ),
        protects_against="f clients that send anything, also if they hide in a few single cells",
        compute=bulyan,
        weighted=False,
        parameters=(FAULTY,),
        cohort="n ≥ 4f + 3",
        minimum_cohort=_cohort_of_bulyan,
    ),
    RobustRule(
        name="geometric-median",
        title="Geometric median",
        description="the model with the smallest sum of distances to the clients",
        formula="x = argmin Σ w_i ‖x − x_i‖",
        source=(
            "Pillutla, Kakade and Harchaoui, Robust Aggregation for Federated Learning, IEEE "
            "Transactions on Signal Processing 70, 2022"
        ),
        protects_against="arbitrary models of clients with less than half of the weight",
        compute=geometric_median,
        parameters=(SMOOTHING, TOLERANCE, MAX_ITERATIONS),
    ),
    RobustRule(
        name="norm-bounded-mean",
        title="Norm-bounded mean",
        description="the mean of updates that are shortened to a bound",
        formula="x = server + Σ w_i min(1, B / ‖u_i‖) u_i / Σ w_i with u_i = x_i − server",
        source=(
            "Sun, Kairouz, Suresh and McMahan, Can You Really Backdoor Federated Learning?, 2019 "
            "(arXiv:1911.07963)"
        ),
        protects_against="scaled updates: no client moves the model by more than its share of B",
        compute=norm_bounded_mean,
        parameters=(BOUND,),
        needs_server=True,
    ),
    RobustRule(
        name="proximal-mean",
        title="Proximal mean",
        description="the mean, pulled towards the server model (in the style of FedProx)",
        formula="x = (mean + μ · server) / (1 + μ)",
        source=(
            "Li, Sahu, Zaheer, Sanjabi, Talwalkar and Smith, Federated Optimization in "
            "Heterogeneous Networks, MLSys 2020, whose proximal term is in the clients' training"
        ),
        protects_against="nothing: it damps every update alike, and the mean follows any client",
        compute=proximal_mean,
        parameters=(PULL,),
        needs_server=True,
    ),
    RobustRule(
        name="fedavgm",
        title="FedAvgM",
        description="the mean's moves over the rounds, with momentum",
        formula="m ← β m + (mean − server); x = server + η m",
        source=(
            "Hsu, Qi and Brown, Measuring the Effects of Non-Identical Data Distribution for "
            "Federated Visual Classification, 2019 (arXiv:1909.06335)"
        ),
        protects_against=_NOTHING,
        compute=functools.partial(first_server_update, "fedavgm"),
        parameters=OPTIMISERS["fedavgm"].parameters,
        needs_server=True,
        over_rounds=True,
    ),
    RobustRule(
        name="fedadam",
        title="FedAdam",
        description="the mean's moves over the rounds, each cell with its own step length",
        formula=(
            "Δ = mean − server; m ← β₁ m + (1 − β₁) Δ; v ← β₂ v + (1 − β₂) Δ²; "
            "x = server + η m / (√v + τ)"
        ),
        source=_REDDI,
        protects_against=_NOTHING,
        compute=functools.partial(first_server_update, "fedadam"),
        parameters=OPTIMISERS["fedadam"].parameters,
        needs_server=True,
        over_rounds=True,
    ),
    RobustRule(
        name="fedyogi",
        title="FedYogi",
        description="as FedAdam, with step lengths that change more slowly",
        formula=(
            "Δ = mean − server; m ← β₁ m + (1 − β₁) Δ; v ← v − (1 − β₂) Δ² sign(v − Δ²); "
            "x = server + η m / (√v + τ)"
        ),
        source=_REDDI,
        protects_against=_NOTHING,
        compute=functools.partial(first_server_update, "fedyogi"),
        parameters=OPTIMISERS["fedyogi"].parameters,
        needs_server=True,
        over_rounds=True,
    ),
)

RULES: Mapping[str, RobustRule] = {rule.name: rule for rule in _RULES}
"""The rules by name, in the order in which they are shown."""


def aggregate(
    name: str,
    stacks: Stacks,
    weights: np.ndarray,
    server: Mapping[str, np.ndarray] | None = None,
    parameters: Mapping[str, Any] | None = None,
    progress: ProgressCallback = silent,
) -> RobustResult:
    """Apply a rule by name.

    Parameters
    ----------
    name : str
        A key of :data:`RULES`.
    stacks : mapping of str to ndarray or StoredStack of shape (clients, …)
        float16, bfloat16, float32 or float64; in memory or in a file, never loaded whole.
    weights : ndarray of shape (clients,), float64
        Clients of weight 0 take no part.
    server : mapping of str to ndarray, optional
    parameters : mapping of str to number or text, optional
        Those that are not the defaults.
    progress : callable, optional
        Called about every 32 MB. It may raise ``JobCancelledError``.

    Raises
    ------
    UnknownNameError
        There is no such rule, or it has no such parameter.
    InvalidArgumentError
        A parameter outside its range.
    CohortError
        Too few clients for the rule, weights that make no mean, or no server model where the rule
        needs one.
    SignatureError
        Stacks or server tensors that do not fit together.
    """
    if name not in RULES:
        raise UnknownNameError(f"there is no rule {name}; there are {', '.join(RULES)}.")
    rule = RULES[name]
    return rule.compute(stacks, weights, server, progress, **rule.checked(parameters or {}))
