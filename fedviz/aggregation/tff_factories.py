"""TFF's factories for the rows of :data:`~fedviz.aggregation.tff_aggregators.TFF_AGGREGATORS`.

Where ``tff.learning`` has the very aggregator, it is that. Elsewhere it is put together of
``tff.aggregators`` in the order that ``tff.learning`` uses: zeroing outermost, then clipping, then
the mean, then the sum.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
import tensorflow_privacy as tfp

from fedviz.aggregation.tff_aggregators import TffAggregator, expected_clients
from fedviz.errors import InvalidArgumentError

__all__ = ["create_process", "with_sums_in_the_clear"]

Settings = Mapping[str, Any]


def create_process(
    aggregator: TffAggregator,
    value_type: Any,
    parameters: Mapping[str, Any],
    num_clients: int,
) -> Any:
    """TFF's process for values of a type.

    Parameters
    ----------
    aggregator : TffAggregator
    value_type : tff.Type
        A structure of float tensors.
    parameters : mapping
        The aggregator's, checked or not; those that are not given have their defaults.
    num_clients : int
        How many clients take part: the default of ``clients_per_round``.

    Returns
    -------
    tff.templates.AggregationProcess
        Weighted by float32 where the aggregator is.

    Raises
    ------
    InvalidArgumentError
        Parameters that TFF does not take together.
    """
    # TensorFlow says of each assertion within TFF's own secure sums that nobody uses it.
    tf.get_logger().addFilter(_is_of_interest)
    try:
        factory = _FACTORIES[aggregator.name](aggregator.settings(parameters), num_clients)
        if aggregator.weighted:
            return factory.create(value_type, tff.TensorType(np.float32))
        return factory.create(value_type)
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise InvalidArgumentError(f"{aggregator.name}: TFF refuses this: {reason}") from error


def _is_of_interest(record: logging.LogRecord) -> bool:
    return "Object was never used" not in record.getMessage()


def with_sums_in_the_clear(computation: Any) -> Any:
    """A computation whose secure sums are replaced by plain ones, so that any worker runs it.

    It is TFF's own replacement, that of its test context. The computation is flattened before and
    after: a process that is nested as deep as distributed privacy is cannot be written into a
    message otherwise.
    """
    return _flat(tff.backends.test.replace_secure_intrinsics_with_bodies(_flat(computation)))


def _flat(computation: Any) -> Any:
    block = tff.framework.to_call_dominant(computation.to_building_block())
    return tff.framework.ConcreteComputation.from_building_block(block)


def _mean(_: Settings, __: int) -> Any:
    return tff.aggregators.MeanFactory()


def _unweighted_mean(_: Settings, __: int) -> Any:
    return tff.aggregators.UnweightedMeanFactory()


def _clipping(settings: Settings, _: int) -> Any:
    norm = settings["clipping_norm"]
    if _on(settings["adaptive"]):
        norm = tff.aggregators.PrivateQuantileEstimationProcess.no_noise(
            initial_estimate=norm,
            target_quantile=settings["target_quantile"],
            learning_rate=settings["learning_rate"],
        )
    return tff.aggregators.clipping_factory(norm, tff.aggregators.MeanFactory())


def _zeroing(settings: Settings, _: int) -> Any:
    norm = settings["zeroing_norm"]
    if _on(settings["adaptive"]):
        norm = tff.aggregators.PrivateQuantileEstimationProcess.no_noise(
            initial_estimate=norm,
            target_quantile=settings["target_quantile"],
            learning_rate=settings["learning_rate"],
            multiplier=2.0,
            increment=1.0,
        )
    order = float(settings["norm_order"])
    return tff.aggregators.zeroing_factory(norm, tff.aggregators.MeanFactory(), order)


def _robust(settings: Settings, _: int) -> Any:
    return tff.learning.robust_aggregator(
        zeroing=_on(settings["zeroing"]), clipping=_on(settings["clipping"])
    )


def _dp(settings: Settings, num_clients: int) -> Any:
    clients = float(expected_clients(settings, num_clients))
    if not _on(settings["adaptive"]):
        factory = tff.aggregators.DifferentiallyPrivateFactory.gaussian_fixed(
            settings["noise_multiplier"], clients, settings["clipping_norm"]
        )
    else:
        stddev = settings["clipped_count_stddev"]
        factory = tff.aggregators.DifferentiallyPrivateFactory.gaussian_adaptive(
            settings["noise_multiplier"],
            clients,
            initial_l2_norm_clip=settings["clipping_norm"],
            target_unclipped_quantile=settings["target_quantile"],
            learning_rate=settings["learning_rate"],
            clipped_count_stddev=None if stddev == "default" else stddev,
        )
    return _adaptive_zeroing(factory) if _on(settings["zeroing"]) else factory


def _compression(settings: Settings, _: int) -> Any:
    factory = tff.aggregators.MeanFactory(_quantised_sum(settings))
    if _on(settings["clipping"]):
        factory = _adaptive_clipping(factory)
    return _adaptive_zeroing(factory) if _on(settings["zeroing"]) else factory


def _quantised_sum(settings: Settings) -> Any:
    return tff.aggregators.EncodedSumFactory.quantize_above_threshold(
        quantization_bits=settings["quantization_bits"], threshold=settings["threshold"]
    )


def _adaptive_zeroing(factory: Any) -> Any:
    """With the numbers of ``tff.learning``."""
    norm = tff.aggregators.PrivateQuantileEstimationProcess.no_noise(
        initial_estimate=10.0,
        target_quantile=0.98,
        learning_rate=math.log(10.0),
        multiplier=2.0,
        increment=1.0,
    )
    return tff.aggregators.zeroing_factory(norm, factory)


def _adaptive_clipping(factory: Any) -> Any:
    """With the numbers of ``tff.learning``."""
    norm = tff.aggregators.PrivateQuantileEstimationProcess.no_noise(
        initial_estimate=1.0, target_quantile=0.8, learning_rate=0.2
    )
    return tff.aggregators.clipping_factory(norm, factory)


def _secure(settings: Settings, _: int) -> Any:
    return tff.learning.secure_aggregator(
        zeroing=_on(settings["zeroing"]), clipping=_on(settings["clipping"])
    )


def _ddp_secure(settings: Settings, num_clients: int) -> Any:
    return tff.learning.ddp_secure_aggregator(
        settings["noise_multiplier"],
        int(expected_clients(settings, num_clients)),
        bits=settings["bits"],
        zeroing=_on(settings["zeroing"]),
        rotation_type=settings["rotation_type"],
    )


def _composition(settings: Settings, _: int) -> Any:
    total = {
        "plain": tff.aggregators.SumFactory,
        "compressed": lambda: _quantised_sum(settings),
        "secure": lambda: tff.aggregators.SecureSumFactory(settings["secure_bound"]),
    }[settings["sum"]]()
    factory = tff.aggregators.MeanFactory(total)
    if settings["clipping_norm"] != "none":
        factory = tff.aggregators.clipping_factory(settings["clipping_norm"], factory)
    return _with_fixed_zeroing(settings, factory)


def _dp_composition(settings: Settings, num_clients: int) -> Any:
    clients = float(expected_clients(settings, num_clients))
    total = (
        tff.aggregators.SecureSumFactory(settings["secure_bound"])
        if settings["sum"] == "secure"
        else tff.aggregators.SumFactory()
    )
    norm = settings["clipping_norm"]
    query = tfp.NormalizedQuery(
        tfp.GaussianSumQuery(l2_norm_clip=norm, stddev=norm * settings["noise_multiplier"]),
        denominator=clients,
    )
    factory = tff.aggregators.DifferentiallyPrivateFactory(query, total)
    return _with_fixed_zeroing(settings, factory)


def _with_fixed_zeroing(settings: Settings, factory: Any) -> Any:
    norm = settings["zeroing_norm"]
    return factory if norm == "none" else tff.aggregators.zeroing_factory(norm, factory)


def _on(word: str) -> bool:
    return word == "yes"


_FACTORIES: Mapping[str, Callable[[Settings, int], Any]] = {
    "tff-mean": _mean,
    "tff-unweighted-mean": _unweighted_mean,
    "clipping": _clipping,
    "zeroing": _zeroing,
    "robust": _robust,
    "dp": _dp,
    "compression": _compression,
    "secure": _secure,
    "ddp-secure": _ddp_secure,
    "composition": _composition,
    "dp-composition": _dp_composition,
}
