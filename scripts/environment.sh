#!/usr/bin/env bash
# Makes .venv from the locks; does nothing where it is up to date.
#
#   scripts/environment.sh runtime    what fedviz needs to run
#   scripts/environment.sh dev        that, and what its tests need
#
# It is installed by uv where there is one, else by pip, and without dependency resolution: the
# locks are complete, and TensorFlow Federated's own pins cannot be resolved.
set -euo pipefail
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."

python=.venv/bin/python
# It is there while packages are being installed. Where it is found, an earlier run was interrupted
# and may have left half a package behind.
unfinished=.venv/unfinished

pip_options=(--disable-pip-version-check)
[[ -t 2 ]] || pip_options+=(--quiet)

say() { echo "fedviz: $*" >&2; }

fail() {
    say "$@"
    exit 1
}

require_supported_platform() {
    local platform
    platform="$(uname -s) $(uname -m)"
    [[ $platform == "Linux x86_64" ]] ||
        fail "TensorFlow Federated is published for Linux on x86-64 only; this is $platform."
}

# Two runs at once would install over each other.
wait_for_turn() {
    command -v flock >/dev/null || return 0
    exec 9<scripts/environment.sh
    flock --nonblock 9 && return 0
    say "waiting for another run that makes the environment"
    flock 9
}

# Whether it was installed from the lock as it is now: the stamp holds the lock's checksum.
installed() {
    sha256sum --check --status ".venv/$1.stamp" 2>/dev/null
}

is_python_3_11() {
    "$1" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' >/dev/null 2>&1
}

# The scripts in .venv/bin name their interpreter by its full path: an environment that was moved
# or copied is made anew.
environment_is_sound() {
    [[ ! -e $unfinished ]] && grep -qsF "$PWD/.venv" .venv/bin/activate && is_python_3_11 "$python"
}

make_environment() {
    local candidate
    rm -rf .venv
    if command -v uv >/dev/null && uv venv --quiet --python 3.11 .venv; then
        return
    fi
    for candidate in python3.11 python3 python; do
        is_python_3_11 "$candidate" || continue
        rm -rf .venv
        "$candidate" -m venv .venv && return
        fail "$candidate cannot make an environment; on Debian: apt-get install python3.11-venv."
    done
    fail "needs Python 3.11 or uv, found neither. Install one of them" \
        "(Debian: apt-get install python3.11-venv) and run make again."
}

# uv does not read pip's configuration, and where an index is configured for pip alone it finds
# nothing: then pip gets its chance.
install() {
    if command -v uv >/dev/null; then
        uv pip install --python "$python" --no-deps "$@" && return
        say "uv could not install it; trying pip"
    fi
    "$python" -m pip --version >/dev/null 2>&1 || "$python" -m ensurepip >/dev/null
    # Like uv, it leaves compiling to the first import: most modules are never imported.
    "$python" -m pip install "${pip_options[@]}" --no-compile --no-deps "$@"
}

# install_once NAME FILE ARGUMENTS...: the stamp is written last, and only when all went well.
install_once() {
    local name=$1 file=$2
    shift 2
    installed "$name" && return
    touch "$unfinished"
    say "installing $name from $file"
    install "$@" || fail "could not install $name; see above"
    sha256sum "$file" >".venv/$name.stamp"
    rm "$unfinished"
}

main() {
    local what=${1:-runtime}
    wait_for_turn
    if ! environment_is_sound; then
        require_supported_platform
        say "making .venv: minutes this once, no time later"
        make_environment
    fi
    install_once runtime "requirements.txt" -r requirements.txt
    # After the lock, which brings the build backend: nothing is fetched for the build.
    install_once project "pyproject.toml" --no-build-isolation -e .
    if [[ $what == dev ]]; then
        install_once dev "requirements-dev.txt" -r requirements-dev.txt
    fi
}

main "$@"
