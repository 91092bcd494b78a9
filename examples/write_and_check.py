"""Write a round of your own clients, one of them wrong, and find out which; no TensorFlow needed.

python examples/write_and_check.py [OUT.h5]
"""

import sys

import numpy as np

import fedviz as fv

out = sys.argv[1] if len(sys.argv) > 1 else "two-sites.h5"
rng = np.random.default_rng(0)

server = {
    "dense/kernel": rng.normal(size=(8, 3)).astype("float32"),
    "dense/bias": np.zeros(3, dtype="float32"),
}
signature = fv.Signature.of(server)

site_a = {name: array + np.float32(0.01) for name, array in server.items()}
site_b = dict(site_a, **{"dense/kernel": site_a["dense/kernel"].T.copy()})  # as PyTorch has it

with fv.WeightDatasetWriter(out, signature) as writer:
    clients = [fv.ClientEntry("site-a", 120), fv.ClientEntry("site-b", 80, fv.Signature.of(site_b))]
    with writer.round(clients, server) as round_:
        round_.write_client("site-a", site_a)
        round_.write_client("site-b", site_b)

for mismatch in fv.check(out).mismatches:
    print(mismatch)
