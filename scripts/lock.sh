#!/usr/bin/env bash
# Writes requirements.txt and requirements-dev.txt from their .in files.
#
#   scripts/lock.sh              keeps the versions that still fit
#   scripts/lock.sh --upgrade    takes the newest
set -euo pipefail
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."

command -v uv >/dev/null || {
    echo "fedviz: make lock needs uv, which resolves with overrides; found none on PATH" >&2
    exit 1
}

compile() {
    uv pip compile "$1.in" --output-file "$1.txt" --override requirements-overrides.txt \
        --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
        --custom-compile-command "make lock" --quiet "${@:2}"
}

# prepend FILE: puts the standard input before what the file holds.
prepend() {
    local whole
    whole=$(cat - "$1")
    printf '%s\n' "$whole" >"$1"
}

compile requirements "$@"
prepend requirements.txt <<'HEADER'
# The full lock of what fedviz runs with, for Python 3.11 on Linux. `make run` installs it. By hand:
#
#     python3.11 -m venv .venv
#     .venv/bin/pip install --no-deps -r requirements.txt
#     .venv/bin/pip install --no-deps --no-build-isolation -e .
#
# Without --no-deps pip refuses it: TensorFlow Federated 0.87 pins a jaxlib that is gone from the
# index and a typing-extensions that Streamlit refuses. It runs well with the newer ones below
# (requirements-overrides.txt); nothing is missing from this list.
#
HEADER

compile requirements-dev "$@"
prepend requirements-dev.txt <<'HEADER'
# What the tests and checks need besides requirements.txt. `make test` installs it. By hand:
#
#     .venv/bin/pip install --no-deps -r requirements-dev.txt
#
HEADER
