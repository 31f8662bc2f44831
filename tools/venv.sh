# SPDX-License-Identifier: MIT
# Sourced after say.sh. The Python environment of tests, examples and demo:
# .venv, with the tools that the tests need and this checkout's package.

# Debian's own interpreter, whose headers python3-dev brings.
base_python=${TDL_PYTHON:-/usr/bin/python3}
[ -x "$base_python" ] || base_python=python3

venv_tools="pytest msgpack"
venv_peers="uvloop==0.23.0" # what benchmarks compare with

venv_ready() {
    if [ ! -x .venv/bin/python ]; then
        quietly "creating .venv" "$base_python" -m venv .venv || return
    fi
    if ! .venv/bin/python -c 'import pytest, msgpack, setuptools, wheel' 2>/dev/null; then
        quietly "installing into .venv: $venv_tools setuptools wheel" \
            .venv/bin/python -m pip install --disable-pip-version-check $venv_tools setuptools wheel || return
    fi
}

# The package, built again when something it is built from has changed.
venv_package() {
    local stamp=.venv/treadle-installed
    venv_ready || return
    if [ -e "$stamp" ] && [ -z "$(find core bindings/python setup.py pyproject.toml -newer "$stamp" -type f \
            -not -name '*.pyc' -print -quit)" ]; then
        return 0
    fi
    : >"$stamp.new" # as old as the beginning of the build
    quietly "installing treadle into .venv" \
        .venv/bin/python -m pip install --disable-pip-version-check --no-build-isolation --no-deps --force-reinstall . \
        || return
    mv "$stamp.new" "$stamp"
}

venv_peers() {
    .venv/bin/python -m pip freeze 2>/dev/null | grep -qx "$venv_peers" ||
        quietly "installing $venv_peers into .venv" .venv/bin/python -m pip install --disable-pip-version-check $venv_peers
}
