# SPDX-License-Identifier: MIT
# Sourced after say.sh. compile DIRECTORY CMAKE-OPTION…: configures and builds.

compile() {
    local dir=$1
    shift
    quietly "configuring $dir" cmake -S . -B "$dir" -G Ninja "$@" || return
    quietly "building $dir" cmake --build "$dir"
}

# What most commands need: libraries, C tests, examples and load drivers.
compile_default() {
    compile build -DCMAKE_C_COMPILER=gcc -DTDL_WERROR=ON -DTDL_BUILD_TESTS=ON -DTDL_BUILD_EXAMPLES=ON
}
