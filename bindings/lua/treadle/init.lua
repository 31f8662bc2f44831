-- SPDX-License-Identifier: MIT
-- treadle: goroutines, channels, select and network I/O for LuaJIT.
--
--     local treadle = require "treadle"
--     treadle.run(function()
--       local ch = treadle.chan()
--       treadle.go(function() ch:send "hello" end)
--       print(ch:recv())
--     end)
--
-- What the environment does to a program is returned as nil and a short stable
-- string; what the program does wrong is an error at its line.  Every call that
-- waits returns nil, "cancelled" in a goroutine that was cancelled, and raises an
-- error when that is ignored.
--
-- This file only gathers the public functions; each is documented where it is.

local library = require "treadle.library"
local buffered = require "treadle.buffered"
local chan = require "treadle.chan"
local class = require "treadle.class"
local context = require "treadle.context"
local debugging = require "treadle.debugging"
local dgram = require "treadle.dgram"
local fd = require "treadle.fd"
local fs = require "treadle.fs"
local goroutine = require "treadle.goroutine"
local group = require "treadle.group"
local io_ = require "treadle.io"
local loop = require "treadle.loop"
local net = require "treadle.net"
local os_ = require "treadle.os"
local protect = require "treadle.protect"
require "treadle.raw" -- more methods of connections
local require_ = require "treadle.require"
local rwmutex = require "treadle.rwmutex"
local scope = require "treadle.scope"
local select_ = require "treadle.select"
local server = require "treadle.server"
local shared = require "treadle.shared"
require "treadle.stream" -- and more
local sync = require "treadle.sync"
local time = require "treadle.time"
local timer = require "treadle.timer"
local tls = require "treadle.tls"
local tune = require "treadle.tune"
local worker = require "treadle.worker"

class.check() -- all methods are there now

---@class treadle
return {
  _VERSION = library.version,
  run = loop.run,
  go = goroutine.go,
  spawn = worker.spawn,
  workers = worker.workers,
  sleep = goroutine.sleep,
  yield = goroutine.yield,
  scope = scope.scope,
  timeout = scope.timeout,
  now = time.now,
  chan = chan.chan,
  shared_chan = shared.shared_chan,
  wrap_chan = shared.wrap_chan,
  select = select_.select,
  try_select = select_.try_select,
  after_op = select_.after_op,
  timer = timer.timer,
  after_func = timer.after_func,
  waitgroup = sync.waitgroup,
  mutex = sync.mutex,
  cond = sync.cond,
  semaphore = sync.semaphore,
  rwmutex = rwmutex.rwmutex,
  once = rwmutex.once,
  background = context.background,
  errgroup = group.errgroup,
  singleflight = group.singleflight,
  listen = net.listen,
  dial = net.dial,
  serve = server.serve,
  listen_udp = dgram.listen_udp,
  dial_udp = dgram.dial_udp,
  listen_unixgram = dgram.listen_unixgram,
  dial_unixgram = dgram.dial_unixgram,
  pipe = net.pipe,
  adopt = net.adopt,
  adopt_listener = net.adopt_listener,
  fd = fd.fd,
  io = {
    copy = io_.copy,
    limit = io_.limit,
    tee = io_.tee,
    multi_reader = io_.multi_reader,
    multi_writer = io_.multi_writer,
    text = io_.text,
    collector = io_.collector,
    discard = io_.discard,
    read_full = io_.read_full,
    read_all = io_.read_all,
    pipe = io_.pipe,
    buffered_writer = buffered.writer,
    buffered_reader = buffered.reader,
    scanner = buffered.scanner,
  },
  tls = {
    config = tls.config,
    connect = tls.connect,
    listen = tls.listen,
    library = tls.library,
  },
  open = fs.open,
  fs = fs.fs,
  lookup = os_.lookup,
  lookup_name = os_.lookup_name,
  command = os_.command,
  signals = os_.signals,
  ignore_signal = os_.ignore_signal,
  reset_signal = os_.reset_signal,
  watch = os_.watch,
  tty = os_.tty,
  yield_if_due = tune.yield_if_due,
  tune = tune.tune,
  require = require_.require,
  sort = require_.sort,
  protect = protect.protect,
  newtry = protect.newtry,
  num_goroutines = debugging.num_goroutines,
  dump = debugging.dump,
  metric = debugging.metric,
  netpoll = debugging.netpoll,
  fault_set = debugging.fault_set,
  fault_count = debugging.fault_count,
}
