# SPDX-License-Identifier: MIT
# Installs the headers, both libraries, a pkg-config file and a CMake package.
# Everything is found relative to where it lies, so that
# `cmake --install build --prefix …` may choose the place afterwards.
include(CMakePackageConfigHelpers)

set(_package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/treadle")
set(_pc_dir      "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
file(RELATIVE_PATH TDL_PC_PREFIX "/r/${_pc_dir}" "/r")
string(REGEX REPLACE "/$" "" TDL_PC_PREFIX "${TDL_PC_PREFIX}")

# For `pkg-config --static`: the static libuv, under the name that it has here.
find_library(_uv_archive NAMES libuv_a.a libuv.a)
set(TDL_UV_STATIC "-luv")
if(_uv_archive)
  get_filename_component(_uv_archive "${_uv_archive}" NAME)
  set(TDL_UV_STATIC "-l:${_uv_archive}")
endif()
unset(_uv_archive CACHE)
configure_file(cmake/treadle.pc.in treadle.pc @ONLY)
configure_package_config_file(cmake/treadleConfig.cmake.in treadleConfig.cmake
  INSTALL_DESTINATION "${_package_dir}")
write_basic_package_version_file(treadleConfigVersion.cmake COMPATIBILITY SameMinorVersion)

install(TARGETS treadle treadle_static EXPORT treadleTargets
  LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}"
  ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}")
install(DIRECTORY core/include/ DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" FILES_MATCHING PATTERN "*.h")
install(EXPORT treadleTargets NAMESPACE treadle:: DESTINATION "${_package_dir}")
install(FILES
    "${CMAKE_CURRENT_BINARY_DIR}/treadleConfig.cmake"
    "${CMAKE_CURRENT_BINARY_DIR}/treadleConfigVersion.cmake"
  DESTINATION "${_package_dir}")
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/treadle.pc" DESTINATION "${_pc_dir}")
