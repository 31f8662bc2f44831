-- Methods called with a dot instead of a colon: the error is at the caller's line, and says what to write.
local helper = require "helper"
local treadle = require "treadle"
local inside, raises = helper.inside, helper.raises

--- One object of each public class, by what messages call it.
local function objects()
  local a, b = treadle.pipe(10)
  local listener = assert(treadle.listen("tcp", "127.0.0.1:0"))
  local mutex = treadle.mutex()
  local ctx = treadle.background():with_cancel()
  local held
  treadle.scope(function(s) held = s end)
  local io_ = treadle.io
  return {
    { "conn", a }, { "conn", b }, { "listener", listener }, { "chan", treadle.chan(1) }, { "chan", treadle.shared_chan(1) },
    { "mutex", mutex }, { "cond", treadle.cond(mutex) }, { "semaphore", treadle.semaphore(1) },
    { "waitgroup", treadle.waitgroup() }, { "rwmutex", treadle.rwmutex() }, { "once", treadle.once() },
    { "timer", treadle.timer(100) }, { "timer", treadle.after_func(100, print) }, { "context", ctx },
    { "group", treadle.errgroup() }, { "flight", treadle.singleflight() }, { "task", treadle.go(treadle.yield) },
    { "socket", assert(treadle.listen_udp "127.0.0.1:0") },
    { "fd", treadle.fd(assert(treadle.listen("tcp", "127.0.0.1:0")):release()) },
    { "file", assert(treadle.open "/dev/null") },
    { "process", assert(treadle.command { "true" }) }, { "signals", assert(treadle.signals "USR2") },
    { "watch", assert(treadle.watch "/tmp") }, { "server", assert(treadle.serve(listener, print)) }, { "scope", held },
    { "workers", treadle.workers(1, function() end) },
    { "reader", io_.limit(a, 1) }, { "reader", io_.tee(a, b) }, { "reader", io_.multi_reader(a) }, { "reader", io_.text "x" },
    { "writer", io_.multi_writer(a) }, { "collector", io_.collector() }, { "writer", io_.buffered_writer(a) },
    { "reader", io_.buffered_reader(a) }, { "scanner", io_.scanner(a) },
  }
end

local INTERNAL = { load = true, sent = true, settled = true, received = true, drained = true }

describe("a method called with a dot", function()
  it("is refused by every method of every object, at the caller's line", inside(function()
    local seen = 0
    for _, one in ipairs(objects()) do
      local label, class = one[1], getmetatable(one[2])
      assert.is_table(class, label)
      for name, method in pairs(class.__index) do
        if type(method) == "function" and name:sub(1, 2) ~= "__" and not (label == "chan" and INTERNAL[name]) then
          for _, first in ipairs { 5, "text", {} } do
            local ok, err = pcall(function() method(first) error "not reached" end)
            assert.is_false(ok)
            assert.matches(("class_spec.lua:%%d+: treadle: use %s:%s, not %s.%s: the method got a %s in place of the %s"):format(
              label, name, label, name, type(first), label), err)
          end
          local ok, err = pcall(function() method() error "not reached" end)
          assert.is_false(ok)
          assert.matches(("use %s:%s, not .*got nothing in place"):format(label, name), err)
          seen = seen + 1
        end
      end
      assert.is_nil(tostring(one[2]):find "^table: ", label)
      if one[2].close then one[2]:close() end
    end
    assert.is_true(seen > 200, seen .. " methods")
  end))

  it("names what came instead", inside(function()
    local conn, other = treadle.pipe(10)
    local ch = treadle.chan(1)
    raises(function() conn.read(ch) end, "class_spec.lua:%d+: treadle: use conn:read, not conn.read: the method got a chan in place of")
    raises(function() conn.write "hello" end, "got a string in place")
    raises(function() ch.send(1) end, "use chan:send, not chan.send: the method got a number")
    raises(function() treadle.shared_chan(1).send(ch, 1) end, "got a chan in place of the chan") -- of the other kind
    assert.equal(5, conn:write "hello") -- nothing has happened
    assert.equal("hello", other:read(5))
  end))

  it("in a function that is pcall's own has the line of the pcall", inside(function()
    local conn = treadle.pipe(10)
    raises(function() local ok, err = pcall(conn.read, 5) assert(not ok) error(err, 0) end, "class_spec.lua:%d+: treadle: use conn:read")
  end))

  it("outside a run, too", function()
    local m = treadle.mutex()
    raises(function() m.lock() end, "class_spec.lua:%d+: treadle: use mutex:lock")
    local guest = require "treadle.guest"
    local g = guest.attach()
    raises(function() g.step() end, "class_spec.lua:%d+: treadle: use guest:step")
    g:close()
  end)

  it("goes to who joins the goroutine that made it", inside(function()
    local conn = treadle.pipe(10)
    local _, err = treadle.go(function() conn.close() end):join()
    assert.matches("class_spec.lua:%d+: treadle: use conn:close", tostring(err))
  end))
end)

describe("what is spelt or given wrong", function()
  it("in options is told, with those that there are", inside(function()
    local listener = assert(treadle.listen("tcp", "127.0.0.1:0"))
    local here = listener:address()
    for what, call in pairs {
      dial = function(o) treadle.dial("tcp", here, o) end,
      listen = function(o) treadle.listen("tcp", "127.0.0.1:0", o) end,
      serve = function(o) treadle.serve(listener, print, o) end,
      command = function(o) treadle.command({ "true" }, o) end,
      lookup = function(o) treadle.lookup("127.0.0.1", o) end,
      open = function(o) treadle.open("/dev/null", "r", o) end,
      write = function(o) treadle.fs.write("/dev/null", "", o) end,
      scanner = function(o) treadle.io.scanner(treadle.io.text "x", o) end,
      fd = function(o) treadle.fd(0, o) end,
      run = function(o) treadle.run(print, o) end,
    } do
      raises(function() call { timout = 1 } end, "class_spec.lua:%d+: treadle: " .. what .. " has no option timout; it has %w")
      raises(function() call { 5 } end, what .. " has no option 1; it has")
      raises(function() call "fast" end, what .. " expects a table of options")
    end
    raises(function() treadle.dial("tcp", here, { rom = 1 }) end, "no option rom; it has timeout, from, fallback_delay")
    raises(function() treadle.dial("tcp", here, { ["timeout from"] = 1 }) end, "no option timeout from;")
    listener:close()
  end))

  it("in a select, too: the operations without a table around them", inside(function()
    local ch = treadle.chan(1)
    raises(function() treadle.select(ch:recv_op(), treadle.after_op(1)) end,
      "class_spec.lua:%d+: treadle: select expects a table of operations, select { a, b }, got an operation itself")
    raises(function() treadle.select(ch) end, "got a chan")
    raises(function() treadle.select { nil, ch:recv_op() } end, "operation 1 is nil")
    raises(function() treadle.select { one = ch:recv_op() } end, "first entry is nil")
    raises(function() treadle.select { ch } end, "operation 1 is a chan: use recv_op")
    ch:send(1)
    assert.equal(1, (treadle.select { ch:recv_op() }))
  end))

  it("to another state is refused by name: what stays in its own", inside(function()
    local ch, file = treadle.shared_chan(4), assert(treadle.open "/dev/null")
    for label, object in pairs { mutex = treadle.mutex(), file = file, task = treadle.go(function() end), timer = treadle.timer(9) } do
      raises(function() ch:send(object) end, "class_spec.lua:%d+: treadle: a " .. label .. " cannot leave its lua_State")
      raises(function() ch:send { { object } } end, "there is a " .. label .. " in it, which cannot leave its lua_State")
    end
    raises(function() ch:send { f = print } end, "there is a function in it")
    raises(function() ch:send { co = coroutine.create(print) } end, "there is a coroutine in it")
    assert.equal(0, ch:len())
    assert.is_true(ch:send(setmetatable({ 1 }, { __index = print }))) -- a class of the program's own is a table
    assert.same({ 1 }, (ch:recv()))
    file:close()
  end))
end)
