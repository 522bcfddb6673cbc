#!/usr/bin/env bash
# The one driver: sets up the environment if needed, then hands over to `python -m cobe.driver`.
set -euo pipefail
called_from=$PWD
cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" # it may be called by a link
project=$PWD

usage() {
    cat <<'TEXT'
Usage: ./run_all.sh [figures] [--profile smoke|quick|paper] [--data DIR] [--only fig1,...] [--dry-run]
       ./run_all.sh lab [options of JupyterLab]   open JupyterLab on the tour
       ./run_all.sh test [options of pytest]      run the test suite
       ./run_all.sh exercises [--profile NAME]    run the solution of every exercise
       ./run_all.sh site                          build the static site into build/site
       ./run_all.sh fetch [--subject SUB ...] [--sessions N] [--timeseries] [--dest DIR] [--dry-run]
                                                  get real data with DataLad (fetch --help says more)
       ./run_all.sh pair                          refresh the committed notebooks from the last runs
       ./run_all.sh address URL                   set the repository's address, for badges and Colab

New here? ./run_all.sh --profile smoke (minutes), then ./run_all.sh lab.

With no arguments: runs every notebook on the embedded, simulated default (profile quick) and
regenerates figures/. What is there and intact is not made again; an interrupted run goes on.

  --profile NAME  smoke: minutes, for tests and classes; quick: the default; paper: the real data
  --data DIR      folder of the data (default: $COBE_DATA, else data/)
  --only FIG,...  only these figures, such as fig1,fig6
  --dry-run       say what would be done (steps, cells, disk, GPU-hours), and do nothing
TEXT
}

fail() {
    echo "cobe: $1" >&2
    exit 1
}

suitable() { # the environment of this python has exactly the versions of requirements.txt
    "$1" src/cobe/core/environment.py requirements.txt >/dev/null 2>&1
}

find_python() {
    local candidate
    for candidate in python3.13 python3.12 python3.11 python3.14 python3 python; do
        if command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

set_up() {
    local python log=build/install.log started=$SECONDS
    python=$(find_python) ||
        fail "python 3.11 to 3.14: not found; install one (python.org, or: conda env create -f environment.yml) and run again"
    mkdir -p build || fail "build/: cannot be made here; check that this folder is writable"
    if command -v flock >/dev/null; then # two first runs at once: one sets up, the other waits
        exec 9>build/.install.lock
        flock -n 9 || { echo "another run is setting up .venv; waiting" >&2 && flock 9; }
        if [ -x .venv/bin/python ] && suitable .venv/bin/python; then
            exec 9>&-
            return
        fi
    fi
    echo "setting up .venv with $("$python" --version) (once; the log is $log)" >&2
    if ! "$python" -m venv .venv >"$log" 2>&1; then
        fail "$python -m venv failed: $(tail -n 1 "$log"); on Debian or Ubuntu install python3-venv, and see $log"
    fi
    if ! .venv/bin/python -m pip install --disable-pip-version-check -r requirements.txt >>"$log" 2>&1 ||
        ! .venv/bin/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e . >>"$log" 2>&1; then
        if grep -qi "no space left" "$log"; then
            fail "installing the packages failed: the disk is full; free about 4 GB and run again (log: $log)"
        elif grep -qiE "name resolution|connection (error|refused|broken)|timed out|network is unreachable|max retries|NewConnectionError|from versions: none" "$log"; then
            fail "installing the packages failed: no network, or no package index in reach; connect and run again (log: $log)"
        fi
        fail "installing the packages failed: $(grep -E '^ERROR' "$log" | head -n 1); see $log"
    fi
    exec 9>&-
    echo "environment ready after $((SECONDS - started)) s" >&2
}

case "${1:-}" in -h | --help | help)
    usage
    exit 0
    ;;
esac

if [ -n "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] && suitable python; then
    python=python
else
    if ! { [ -x .venv/bin/python ] && suitable .venv/bin/python; }; then
        set_up
        .venv/bin/python src/cobe/core/environment.py requirements.txt >&2 ||
            fail ".venv: does not match requirements.txt after installing; remove .venv and run again"
    fi
    python=$project/.venv/bin/python
fi

export PYTHONPATH="$project/src${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONHASHSEED=0 SOURCE_DATE_EPOCH=0 # the second freezes dates inside PDF files
export TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1
unset MPLBACKEND # the notebooks draw inline
cd -- "$called_from" # folders are given as seen from there; -P: and no module is taken from there
exec "$python" -P -m cobe.driver "$@"
