rockspec_format = "3.0"
package = "treadle"
version = "scm-1"

source = {
   url = "git+file://.",
}

description = {
   summary = "Goroutines, channels, select and network I/O for LuaJIT",
   detailed = [[
      Go-style goroutines on a scheduler written in C: channels, select, wait
      groups, mutexes and TCP, in pure Lua over LuaJIT's ffi. Channels may be
      shared with C threads and Python in the same process.
   ]],
   license = "MIT",
   labels = { "luajit", "coroutine", "async", "network", "concurrency" },
}

supported_platforms = { "linux" }

-- LuaJIT, which calls itself Lua 5.1. Tables cross shared channels as
-- MessagePack if lua-messagepack is there; nothing else needs it.
dependencies = {
   "lua >= 5.1, < 5.2",
}

-- The core is built by the project's CMake files, which have the one list of
-- its sources; nothing but the library is taken from there.
build = {
   type = "command",
   build_command = "cmake -S . -B build.luarocks -DCMAKE_BUILD_TYPE=Release"
      .. " -DTDL_BUILD_TESTS=OFF -DTDL_BUILD_EXAMPLES=OFF -DTDL_BUILD_BENCH=OFF"
      .. " && cmake --build build.luarocks --target treadle --parallel",
   install = {
      lua = {
         ["treadle"] = "bindings/lua/treadle/init.lua",
         ["treadle.buffered"] = "bindings/lua/treadle/buffered.lua",
         ["treadle.cdef"] = "bindings/lua/treadle/cdef.lua",
         ["treadle.chan"] = "bindings/lua/treadle/chan.lua",
         ["treadle.class"] = "bindings/lua/treadle/class.lua",
         ["treadle.compat.common"] = "bindings/lua/treadle/compat/common.lua",
         ["treadle.compat.ngx"] = "bindings/lua/treadle/compat/ngx/init.lua",
         ["treadle.compat.ngx.clock"] = "bindings/lua/treadle/compat/ngx/clock.lua",
         ["treadle.compat.ngx.codec"] = "bindings/lua/treadle/compat/ngx/codec.lua",
         ["treadle.compat.ngx.dict"] = "bindings/lua/treadle/compat/ngx/dict.lua",
         ["treadle.compat.ngx.log"] = "bindings/lua/treadle/compat/ngx/log.lua",
         ["treadle.compat.ngx.pcre"] = "bindings/lua/treadle/compat/ngx/pcre.lua",
         ["treadle.compat.ngx.pool"] = "bindings/lua/treadle/compat/ngx/pool.lua",
         ["treadle.compat.ngx.re"] = "bindings/lua/treadle/compat/ngx/re.lua",
         ["treadle.compat.ngx.request"] = "bindings/lua/treadle/compat/ngx/request.lua",
         ["treadle.compat.ngx.semaphore"] = "bindings/lua/treadle/compat/ngx/semaphore.lua",
         ["treadle.compat.ngx.ssl"] = "bindings/lua/treadle/compat/ngx/ssl.lua",
         ["treadle.compat.ngx.tcp"] = "bindings/lua/treadle/compat/ngx/tcp.lua",
         ["treadle.compat.ngx.thread"] = "bindings/lua/treadle/compat/ngx/thread.lua",
         ["treadle.compat.ngx.timer"] = "bindings/lua/treadle/compat/ngx/timer.lua",
         ["treadle.compat.ngx.udp"] = "bindings/lua/treadle/compat/ngx/udp.lua",
         ["treadle.compat.ngx.uri"] = "bindings/lua/treadle/compat/ngx/uri.lua",
         ["treadle.compat.socket"] = "bindings/lua/treadle/compat/socket/init.lua",
         ["treadle.compat.socket.tcp"] = "bindings/lua/treadle/compat/socket/tcp.lua",
         ["treadle.compat.socket.udp"] = "bindings/lua/treadle/compat/socket/udp.lua",
         ["treadle.compat.socket.wait"] = "bindings/lua/treadle/compat/socket/wait.lua",
         ["treadle.compat.stream"] = "bindings/lua/treadle/compat/stream.lua",
         ["treadle.conn"] = "bindings/lua/treadle/conn.lua",
         ["treadle.context"] = "bindings/lua/treadle/context.lua",
         ["treadle.debugging"] = "bindings/lua/treadle/debugging.lua",
         ["treadle.dgram"] = "bindings/lua/treadle/dgram.lua",
         ["treadle.errors"] = "bindings/lua/treadle/errors.lua",
         ["treadle.fd"] = "bindings/lua/treadle/fd.lua",
         ["treadle.frame"] = "bindings/lua/treadle/frame.lua",
         ["treadle.fs"] = "bindings/lua/treadle/fs.lua",
         ["treadle.goroutine"] = "bindings/lua/treadle/goroutine.lua",
         ["treadle.group"] = "bindings/lua/treadle/group.lua",
         ["treadle.guest"] = "bindings/lua/treadle/guest.lua",
         ["treadle.interpose"] = "bindings/lua/treadle/interpose.lua",
         ["treadle.io"] = "bindings/lua/treadle/io.lua",
         ["treadle.library"] = "bindings/lua/treadle/library.lua",
         ["treadle.loop"] = "bindings/lua/treadle/loop.lua",
         ["treadle.luv"] = "bindings/lua/treadle/luv.lua",
         ["treadle.names"] = "bindings/lua/treadle/names.lua",
         ["treadle.net"] = "bindings/lua/treadle/net.lua",
         ["treadle.option"] = "bindings/lua/treadle/option.lua",
         ["treadle.os"] = "bindings/lua/treadle/os.lua",
         ["treadle.park"] = "bindings/lua/treadle/park.lua",
         ["treadle.protect"] = "bindings/lua/treadle/protect.lua",
         ["treadle.raw"] = "bindings/lua/treadle/raw.lua",
         ["treadle.report"] = "bindings/lua/treadle/report.lua",
         ["treadle.require"] = "bindings/lua/treadle/require.lua",
         ["treadle.rwmutex"] = "bindings/lua/treadle/rwmutex.lua",
         ["treadle.scope"] = "bindings/lua/treadle/scope.lua",
         ["treadle.select"] = "bindings/lua/treadle/select.lua",
         ["treadle.server"] = "bindings/lua/treadle/server.lua",
         ["treadle.shared"] = "bindings/lua/treadle/shared.lua",
         ["treadle.sim"] = "bindings/lua/treadle/sim.lua",
         ["treadle.stream"] = "bindings/lua/treadle/stream.lua",
         ["treadle.sync"] = "bindings/lua/treadle/sync.lua",
         ["treadle.table"] = "bindings/lua/treadle/table.lua",
         ["treadle.task"] = "bindings/lua/treadle/task.lua",
         ["treadle.time"] = "bindings/lua/treadle/time.lua",
         ["treadle.timer"] = "bindings/lua/treadle/timer.lua",
         ["treadle.tls"] = "bindings/lua/treadle/tls.lua",
         ["treadle.trace"] = "bindings/lua/treadle/trace.lua",
         ["treadle.tune"] = "bindings/lua/treadle/tune.lua",
         ["treadle.value"] = "bindings/lua/treadle/value.lua",
         ["treadle.watch"] = "bindings/lua/treadle/watch.lua",
         ["treadle.watchdog"] = "bindings/lua/treadle/watchdog.lua",
         ["treadle.worker"] = "bindings/lua/treadle/worker.lua",
         ["treadle.worker_main"] = "bindings/lua/treadle/worker_main.lua",
      },
      lib = {
         ["treadle.libtreadle"] = "build.luarocks/libtreadle.so",
      },
   },
}

test = {
   type = "command",
   command = "tests/lua/run",
}
