"""Rules that turn clients' weights into one model, beyond those of TensorFlow Federated.

All are functions of arrays, in memory or in a file, and read them in blocks: what they
hold at once is a block, the model and, where clients are compared, a number for each pair of them.
"""

from fedviz.parameters import Parameter
from fedviz.robust.clients import RobustResult
from fedviz.robust.rules import RULES, RobustRule, aggregate
from fedviz.robust.server_updates import ServerState, run_server_updates, server_update

__all__ = [
    "RULES",
    "Parameter",
    "RobustResult",
    "RobustRule",
    "ServerState",
    "aggregate",
    "run_server_updates",
    "server_update",
]
