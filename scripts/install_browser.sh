#!/usr/bin/env bash
# Sees to it that the browser tests find a browser: the system's Chromium or Chrome, else Debian's
# package, else Playwright's own.
set -euo pipefail
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."

python=.venv/bin/python

browser_is_there() {
    "$python" -m tests.browser.chromium >/dev/null 2>&1
}

as_root() {
    if ((EUID == 0)); then
        "$@"
    else
        sudo --non-interactive "$@"
    fi
}

can_install_packages() {
    command -v apt-get >/dev/null && as_root true 2>/dev/null
}

# Ubuntu's package of that name is an empty one that refers to a snap; the check after the
# installation finds that it does not start.
install_system_chromium() {
    as_root apt-get update --quiet=2 &&
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes chromium
}

install_playwright_chromium() {
    if can_install_packages; then
        "$python" -m playwright install --with-deps chromium
    else
        "$python" -m playwright install chromium
    fi
}

if browser_is_there; then
    exit 0
fi
if [[ -n ${FEDVIZ_BROWSER:-} ]]; then
    echo "fedviz: FEDVIZ_BROWSER=$FEDVIZ_BROWSER does not start" >&2
    exit 1
fi
echo "fedviz: no Chromium or Chrome found; installing one for the browser tests" >&2
if can_install_packages && install_system_chromium </dev/null >&2 && browser_is_there; then
    exit 0
fi
if install_playwright_chromium </dev/null >&2 && browser_is_there; then
    exit 0
fi
echo "fedviz: the browser tests need Chromium, and it could not be installed here. Install" \
    "Chromium or Chrome, or name one: FEDVIZ_BROWSER=/path/to/chromium make test" >&2
exit 1
