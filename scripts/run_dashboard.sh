#!/usr/bin/env bash
# Starts the dashboard, and opens it where there is a desktop: scripts/run_dashboard.sh [PORT]
set -euo pipefail
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."

port=${1:-8501}
headless=true
if [[ -n ${DISPLAY:-}${WAYLAND_DISPLAY:-} && -z ${CI:-} ]]; then
    headless=false
fi

echo "fedviz: http://127.0.0.1:$port (Ctrl+C ends it)" >&2
exec .venv/bin/python -m fedviz.dashboard app.py \
    --server.port "$port" --server.headless "$headless" --server.showEmailPrompt false
