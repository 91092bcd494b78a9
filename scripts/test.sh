#!/usr/bin/env bash
# Runs the checks, then all tests: scripts/test.sh [PYTEST ARGUMENTS...]
#
# The tests run even where a check failed: one run shows all that is wrong, and pytest's summary
# comes last. They take all processors, a file's tests the same one, because they share what the
# file sets up, in the order of tests/conftest.py; a debugger wants ARGS="--numprocesses=0 --pdb".
set -euo pipefail
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."

status=0
make --no-print-directory lint || status=$?
.venv/bin/python -m pytest --numprocesses=logical --dist=loadfile --no-loadscope-reorder \
    "$@" || exit $?
if ((status)); then
    echo "fedviz: the tests passed, but not the checks before them; see \`make lint\`" >&2
fi
exit "$status"
