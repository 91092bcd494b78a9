#!/usr/bin/env bash
# Makes .venv-peers, where the programs live that benchmarks compare with; does nothing where it is
# up to date. They do not go with TensorFlow Federated's environment.
set -euo pipefail
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."

lock=benchmarks/requirements-peers.txt
stamp=.venv-peers/lock.stamp

sha256sum --check --status "$stamp" 2>/dev/null && exit 0
echo "fedviz: making .venv-peers: minutes this once, no time later" >&2
rm -rf .venv-peers
.venv/bin/python -m venv .venv-peers
.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check -r "$lock"
sha256sum "$lock" >"$stamp"
