"""The aggregators that TFF offers, with their parameters and what is to be said of each.

This is a table: reading it loads neither TensorFlow nor TFF. What makes TFF's factories of it is
:mod:`fedviz.aggregation.tff_factories`, and :mod:`fedviz.aggregation.tff_processes` runs them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fedviz.parameters import Choice, Parameter, Rule

__all__ = [
    "SIMULATED_IN_THE_CLEAR",
    "TFF_AGGREGATORS",
    "TffAggregator",
    "expected_clients",
]

SIMULATED_IN_THE_CLEAR = (
    "simulated in the clear: the sums run without the cryptographic protocol, so this shows what "
    "secure aggregation computes, and keeps nothing secret"
)


@dataclass(frozen=True, kw_only=True)
class TffAggregator(Rule):
    """One of TFF's aggregators: a rule over updates (without a server model: over weights).

    Parameters
    ----------
    exact : bool, default False
        Whether the result is a fixed function of the clients, up to rounding: no noise, no
        random rounding.
    context : {"native", "test"}
        ``test`` where secure sums must be replaced by sums in the clear before TFF can run it.
    keeps_float64 : bool, default False
        Whether float64 tensors stay float64; elsewhere all tensors pass through float32.
    """

    exact: bool = False
    context: Literal["native", "test"] = "native"
    keeps_float64: bool = False


def expected_clients(settings: Mapping[str, Any], num_clients: int) -> float:
    """``clients_per_round``, where it is not given the number of clients that take part."""
    given = settings["clients_per_round"]
    return float(num_clients if given == "cohort" else given)


def _switch(name: str, default: str, help: str) -> Choice:
    return Choice(name, ("yes", "no"), default, help)


def _above_zero(
    name: str, default: float | str, help: str, words: tuple[str, ...] = ()
) -> Parameter:
    allowed = " or ".join(("a number above 0", *words))
    return Parameter(name, "number", default, allowed, help, 0, math.inf, True, words)


def _quantile(default: float) -> Parameter:
    return Parameter(
        "target_quantile",
        "number",
        default,
        "a number from 0 to 1",
        "share of the clients below the norm that is sought; counts where adaptive",
        0,
        1,
    )


_LEARNING_RATE_HELP = (
    "how fast the norm follows: it changes by the factor exp(±rate) a round at most; counts where "
    "adaptive"
)
_ADAPTIVE = _switch("adaptive", "no", "whether the norm follows a quantile over the rounds")
_ZEROING = _switch("zeroing", "yes", "whether huge clients are set to zero first, adaptively")
_CLIPPING = _switch("clipping", "yes", "whether the norm is clipped first, adaptively")
_COHORT = ("cohort",)
_EXPECTED = _above_zero(
    "clients_per_round",
    "cohort",
    "expected number of clients of a round: what the sum is divided by",
    _COHORT,
)
_NOISE = Parameter(
    "noise_multiplier",
    "number",
    0.5,
    "a number from 0",
    "standard deviation of the noise on the sum, in clipping norms; 1 or more for real privacy",
    0,
)
_ACCOUNTING = (
    Parameter(
        "delta",
        "number",
        1e-5,
        "a number above 0 and below 1",
        "the delta that epsilon is given for; far below 1 / population",
        0,
        1,
        True,
    ),
    _above_zero(
        "population",
        "cohort",
        "clients that a round's are sampled from, by Poisson sampling; for epsilon only",
        _COHORT,
    ),
    Parameter(
        "num_rounds",
        "integer",
        1,
        "an integer from 1 to 100000",
        "how many rounds release a mean; for epsilon only",
        1,
        100_000,
    ),
)
_QUANTIZATION = (
    Parameter(
        "quantization_bits",
        "integer",
        8,
        "an integer from 1 to 16",
        "bits for each value",
        1,
        16,
    ),
    Parameter(
        "threshold",
        "integer",
        20_000,
        "an integer from 0",
        "only tensors with more values than this are quantised",
        0,
        2**31 - 1,
    ),
)
_SECURE_BOUND = _above_zero(
    "secure_bound",
    50.0,
    "values are cut to plus or minus this before a secure sum; it is divided into 2^32 steps",
)
_ANDREW = "Andrew et al., Differentially Private Learning with Adaptive Clipping, NeurIPS 2021"
_MCMAHAN = "McMahan et al., Learning Differentially Private Recurrent Language Models, ICLR 2018"
_BONAWITZ = (
    "Bonawitz et al., Practical Secure Aggregation for Privacy-Preserving Machine Learning, "
    "CCS 2017"
)
_SURESH = "Suresh et al., Distributed Mean Estimation with Limited Communication, ICML 2017"

_ROWS = (
    TffAggregator(
        name="tff-mean",
        title="TFF mean",
        description="TFF's weighted mean, client by client, in the tensors' own precision",
        formula="sum_i w_i d_i / sum_i w_i",
        source="tff.aggregators.MeanFactory; McMahan et al., Communication-Efficient Learning of "
        "Deep Networks from Decentralized Data, AISTATS 2017",
        protects_against="nothing: the mean follows any client",
        exact=True,
        keeps_float64=True,
    ),
    TffAggregator(
        name="tff-unweighted-mean",
        title="TFF unweighted mean",
        description="TFF's mean of the clients of weight above 0, each counting the same",
        formula="sum_i d_i / n",
        source="tff.aggregators.UnweightedMeanFactory",
        protects_against="a client that claims many examples; nothing else",
        weighted=False,
        exact=True,
        keeps_float64=True,
    ),
    TffAggregator(
        name="clipping",
        title="Clipping",
        description="Updates longer than a norm are shortened to it, then averaged",
        formula="mean of d_i min(1, C / ||d_i||_2)",
        source=f"tff.aggregators.clipping_factory; {_ANDREW}",
        protects_against="the size of a few clients' updates, not their direction",
        parameters=(
            _above_zero("clipping_norm", 1.0, "the norm C; where adaptive, its first estimate"),
            _ADAPTIVE,
            _quantile(0.8),
            _above_zero("learning_rate", 0.2, _LEARNING_RATE_HELP),
        ),
        exact=True,
        keeps_float64=True,
    ),
    TffAggregator(
        name="zeroing",
        title="Zeroing",
        description="Updates beyond a norm are set to zero, keeping their weight, then averaged",
        formula="mean of d_i [||d_i|| <= Z]",
        source="tff.aggregators.zeroing_factory",
        protects_against="corrupted clients with huge or infinite values; not NaN, which is "
        "beyond no norm",
        parameters=(
            _above_zero(
                "zeroing_norm",
                10.0,
                "the norm Z; where adaptive, 2 q + 1 for q the quantile, which starts with it",
            ),
            Choice(
                "norm_order",
                ("inf", "2", "1"),
                "inf",
                "which norm: of the largest value, Euclidean, of the sum of absolute values",
            ),
            _ADAPTIVE,
            _quantile(0.98),
            _above_zero("learning_rate", math.log(10), _LEARNING_RATE_HELP),
        ),
        exact=True,
        keeps_float64=True,
    ),
    TffAggregator(
        name="robust",
        title="Robust",
        description="Zeroing of corrupted clients, then clipping, both adaptive, then the mean",
        formula="mean of clip(zero(d_i, 2 q_0.98 + 1), q_0.8)",
        source=f"tff.learning.robust_aggregator; {_ANDREW}",
        protects_against="corrupted clients with huge or infinite values (not NaN), and the size "
        "of a few clients' updates",
        parameters=(_ZEROING, _CLIPPING),
        exact=True,
        keeps_float64=True,
    ),
    TffAggregator(
        name="dp",
        title="Differential privacy",
        description="Clipped updates, summed, with Gaussian noise on the sum; then divided",
        formula="(sum_i clip(d_i, C) + N(0, (z C)²)) / m",
        source=f"tff.learning.dp_aggregator; {_MCMAHAN}; {_ANDREW}",
        protects_against="learning from the model whether one client took part, as far as "
        "epsilon says",
        parameters=(
            _NOISE,
            _EXPECTED,
            _above_zero("clipping_norm", 0.1, "the norm C; where adaptive, its first estimate"),
            _switch("adaptive", "yes", "whether the norm follows a noisy quantile over the rounds"),
            _quantile(0.5),
            _above_zero("learning_rate", 0.2, _LEARNING_RATE_HELP),
            _above_zero(
                "clipped_count_stddev",
                "default",
                "noise on the number of clipped clients, where adaptive; by default a twentieth "
                "of clients_per_round",
                ("default",),
            ),
            _ZEROING,
            *_ACCOUNTING,
        ),
        weighted=False,
    ),
    TffAggregator(
        name="compression",
        title="Compression",
        description="Large tensors are sent with a few bits a value, rounded at random",
        formula="mean of quantise(clip(zero(w_i d_i)))",
        source=f"tff.learning.compression_aggregator; {_SURESH}",
        protects_against="nothing by the compression; see robust for zeroing and clipping",
        parameters=(*_QUANTIZATION, _ZEROING, _CLIPPING),
    ),
    TffAggregator(
        name="secure",
        title="Secure aggregation",
        description=f"The server sees only the sum of the updates ({SIMULATED_IN_THE_CLEAR})",
        formula="sum_i fix32(w_i clip(zero(d_i))) / sum_i fix32(w_i)",
        source=f"tff.learning.secure_aggregator; {_BONAWITZ}",
        protects_against="a server that looks at single clients, in a real deployment; here "
        "nothing is kept secret",
        parameters=(_ZEROING, _CLIPPING),
        exact=True,
        context="test",
    ),
    TffAggregator(
        name="ddp-secure",
        title="Distributed privacy with secure aggregation",
        description="Each client adds its share of the noise before a secure sum "
        f"({SIMULATED_IN_THE_CLEAR})",
        formula="(sum_i round(rotate(clip(d_i, C))) + Skellam) mod 2^b, turned back, / n",
        source="tff.learning.ddp_secure_aggregator; Agarwal, Kairouz and Liu, The Skellam "
        f"Mechanism for Differentially Private Federated Learning, NeurIPS 2021; {_BONAWITZ}",
        protects_against="learning about one client from the sum, without trust in the server, "
        "in a real deployment; here nothing is kept secret",
        parameters=(
            _NOISE,
            Parameter(
                "clients_per_round",
                "integer",
                "cohort",
                "an integer from 1 or cohort",
                "expected number of clients of a round: each adds its share of the noise",
                1,
                2**22,
                words=_COHORT,
            ),
            Parameter(
                "bits",
                "integer",
                20,
                "an integer from 1 to 22",
                "bits of the sum; at least log2 of clients_per_round",
                1,
                22,
            ),
            Choice("rotation_type", ("hd", "dft"), "hd", "Hadamard or discrete Fourier transform"),
            _ZEROING,
            *_ACCOUNTING,
        ),
        weighted=False,
        context="test",
    ),
    TffAggregator(
        name="composition",
        title="Composition",
        description="Zeroing, clipping, noise, compression and secure sums, as chosen",
        formula="mean of the chosen steps: zero, then clip, then (noise, quantise or fix32)",
        source="tff.aggregators: zeroing_factory, clipping_factory, MeanFactory, "
        "DifferentiallyPrivateFactory, EncodedSumFactory, SecureSumFactory",
        protects_against="what the chosen steps do",
        parameters=(
            _above_zero("zeroing_norm", "none", "largest value that is not zeroed", ("none",)),
            _above_zero("clipping_norm", "none", "norm that updates are clipped to", ("none",)),
            Choice(
                "sum",
                ("plain", "compressed", "secure"),
                "plain",
                f"how the updates are summed; secure is {SIMULATED_IN_THE_CLEAR}",
            ),
            *_QUANTIZATION,
            _SECURE_BOUND,
        ),
        context="test",
    ),
    TffAggregator(
        name="dp-composition",
        title="Composition with privacy",
        description="Zeroing and a fixed clipping norm with Gaussian noise, over a chosen sum",
        formula="(sum_i clip(zero(d_i), C) + N(0, (z C)²)) / m",
        source=f"tff.aggregators.DifferentiallyPrivateFactory, SecureSumFactory; {_MCMAHAN}",
        protects_against="as dp; no threshold depends on the clients",
        parameters=(
            _above_zero("zeroing_norm", "none", "largest value that is not zeroed", ("none",)),
            _above_zero("clipping_norm", 0.1, "the norm C"),
            _NOISE,
            _EXPECTED,
            Choice(
                "sum",
                ("plain", "secure"),
                "plain",
                f"how the updates are summed; secure is {SIMULATED_IN_THE_CLEAR}",
            ),
            _SECURE_BOUND,
            *_ACCOUNTING,
        ),
        weighted=False,
        context="test",
    ),
)

TFF_AGGREGATORS: Mapping[str, TffAggregator] = {row.name: row for row in _ROWS}
"""TFF's aggregators by name, in the order in which they are shown."""
