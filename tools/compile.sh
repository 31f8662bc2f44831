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

# The model checker's programs, without the library that they don't use.
compile_model() {
    quietly "configuring build-model" cmake -S . -B build-model -G Ninja -DCMAKE_C_COMPILER=gcc -DTDL_WERROR=ON -DTDL_BUILD_MODEL=ON || return
    quietly "building build-model" cmake --build build-model --target model
}
