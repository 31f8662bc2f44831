# SPDX-License-Identifier: MIT
# The core: compiled once, as position-independent objects, and put into both
# libraries.  core/sources.txt is the one list of its sources; setup.py reads it too.
set(_core "${CMAKE_CURRENT_SOURCE_DIR}/core")
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${_core}/sources.txt")
file(STRINGS "${_core}/sources.txt" _names REGEX "^[^#]")
set(_sources "")
foreach(_name IN LISTS _names)
  string(STRIP "${_name}" _name)
  if(_name)
    list(APPEND _sources "${_core}/${_name}")
  endif()
endforeach()

# libuv, for what a poller cannot wait for. It is linked dynamically: a process that
# uses it beside treadle has one libuv then, and Debian's static one is not
# position independent.
find_path(TDL_UV_INCLUDE uv.h)
find_library(TDL_UV_LIBRARY uv)
if(NOT TDL_UV_INCLUDE OR NOT TDL_UV_LIBRARY)
  message(FATAL_ERROR "treadle needs libuv 1.42 or later, with its header: on Debian `apt-get install libuv1-dev`. "
    "Elsewhere set TDL_UV_INCLUDE (the folder of uv.h) and TDL_UV_LIBRARY (the library).")
endif()
file(STRINGS "${TDL_UV_INCLUDE}/uv/version.h" _uv_lines REGEX "^#define UV_VERSION_(MAJOR|MINOR) +[0-9]+")
string(REGEX REPLACE ".*MAJOR +([0-9]+).*MINOR +([0-9]+).*" "\\1.\\2" _uv_version "${_uv_lines}")
if(_uv_version VERSION_LESS 1.42)
  message(FATAL_ERROR "treadle needs libuv 1.42 or later; ${TDL_UV_INCLUDE}/uv.h is of ${_uv_version}")
endif()

add_library(treadle_objects OBJECT ${_sources})
set_target_properties(treadle_objects PROPERTIES POSITION_INDEPENDENT_CODE ON)
target_include_directories(treadle_objects PRIVATE "${_core}/include" "${_core}" "${TDL_UV_INCLUDE}")
target_link_libraries(treadle_objects PRIVATE Threads::Threads)
# The switch knows nothing of shadow stacks, and its object must not claim so,
# whatever the compiler's default is: then nobody turns them on.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set_source_files_properties("${_core}/sched/switch.c" PROPERTIES COMPILE_OPTIONS -fcf-protection=branch)
endif()
if(TDL_PORTABLE)
  target_compile_definitions(treadle_objects PRIVATE TDL_PORTABLE)
endif()
if(TDL_SWITCH STREQUAL "portable")
  target_compile_definitions(treadle_objects PRIVATE TDL_SWITCH_PORTABLE)
elseif(TDL_SWITCH)
  message(FATAL_ERROR "TDL_SWITCH is '${TDL_SWITCH}': it can be 'portable' or empty")
endif()

add_library(treadle SHARED $<TARGET_OBJECTS:treadle_objects>)
set_target_properties(treadle PROPERTIES
  VERSION   ${PROJECT_VERSION}
  SOVERSION ${PROJECT_VERSION_MAJOR})
# A sanitizer's symbols come from the program; so does `environ` on the BSDs.
if(NOT TDL_SANITIZE AND CMAKE_SYSTEM_NAME STREQUAL "Linux")
  target_link_options(treadle PRIVATE -Wl,-z,defs)
endif()

add_library(treadle_static STATIC $<TARGET_OBJECTS:treadle_objects>)
set_target_properties(treadle_static PROPERTIES OUTPUT_NAME treadle)

foreach(_lib treadle treadle_static)
  target_include_directories(${_lib} PUBLIC
    $<BUILD_INTERFACE:${_core}/include>
    $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  target_link_libraries(${_lib} PUBLIC Threads::Threads ${CMAKE_DL_LIBS}) # dladdr, before glibc 2.34
  target_link_libraries(${_lib} PRIVATE "$<BUILD_INTERFACE:${TDL_UV_LIBRARY}>" $<INSTALL_INTERFACE:uv>)
  add_library(treadle::${_lib} ALIAS ${_lib})
endforeach()

# For tests that look inside: the static library and the private headers.
add_library(treadle_internal INTERFACE)
target_include_directories(treadle_internal INTERFACE "${_core}")
target_link_libraries(treadle_internal INTERFACE treadle_static)
