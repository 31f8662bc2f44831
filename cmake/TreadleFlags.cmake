# SPDX-License-Identifier: MIT
# Flags for everything that is compiled here: library, tests, examples, benchmarks.
set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS ON) # gnu11: inline assembly for the stack switch
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

add_compile_options(-Wall -Wextra)
if(TDL_WERROR)
  add_compile_options(-Werror)
endif()

# Stacks of parked goroutines are walked by frame pointer.
add_compile_options(-fno-omit-frame-pointer)

if(TDL_SANITIZE)
  add_compile_options(-fsanitize=${TDL_SANITIZE} -O1 -g)
  add_link_options(-fsanitize=${TDL_SANITIZE})
  if(TDL_SANITIZE MATCHES "undefined")
    add_compile_options(-fno-sanitize-recover=undefined)
  endif()
endif()

# The order in which locks are taken is checked where it costs nobody anything.
if(TDL_LOCK_RANKS OR TDL_SANITIZE)
  add_compile_definitions(TDL_LOCK_RANKS)
endif()

set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
