# SPDX-License-Identifier: MIT
# Debian's cross compiler; what is built runs under qemu's user mode.
#   cmake -S . -B build-aarch64 -DCMAKE_TOOLCHAIN_FILE=cmake/aarch64-linux-gnu.cmake
# TDL_AARCH64_ROOT: where Debian's arm64 packages were unpacked (libuv, and libcmocka for
# the tests); see tools/aarch64.sh.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CROSSCOMPILING_EMULATOR "qemu-aarch64;-L;/usr/aarch64-linux-gnu")
set(CMAKE_FIND_ROOT_PATH /usr/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)

list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES TDL_AARCH64_ROOT)
if(TDL_AARCH64_ROOT)
  list(APPEND CMAKE_FIND_ROOT_PATH "${TDL_AARCH64_ROOT}")
  set(ENV{PKG_CONFIG_SYSROOT_DIR} "${TDL_AARCH64_ROOT}")
  set(ENV{PKG_CONFIG_LIBDIR} "${TDL_AARCH64_ROOT}/usr/lib/aarch64-linux-gnu/pkgconfig")
endif()
