-- Servers, delimiters and copies.
local treadle = require "treadle"
local helper = require "helper"
local inside, raises, pair = helper.inside, helper.raises, helper.pair

local function start(handler, options)
  local l = assert(treadle.listen("tcp", "127.0.0.1:0"))
  local address = l:address()
  return assert(treadle.serve(l, handler, options)), address, l
end

local function echo_line(c)
  local line = c:read "L"
  if not line or not c:write(line) then c:close() end
end

--- Waits until the number is so.
local function becomes(server, name, want)
  local deadline = treadle.now() + 10
  while server:stats()[name] ~= want and treadle.now() < deadline do treadle.sleep(0.001) end
  assert.equal(want, server:stats()[name], name)
end

describe("a server", function()
  it("serves each request in a goroutine, and parks the connection between them", inside(function()
    local calls = 0
    local server, address, listener = start(function(c)
      calls = calls + 1
      echo_line(c)
    end)
    assert.same({ nil, "closed" }, { listener:accept() }) -- it is the server's now
    local conns = {}
    for i = 1, 20 do conns[i] = assert(treadle.dial("tcp", address)) end
    becomes(server, "conns", 20)
    assert.equal(0, calls)
    for _ = 1, 3 do
      for i = 1, 20 do
        conns[i]:write("request ", i, "\n")
        assert.equal("request " .. i, conns[i]:read "l")
      end
    end
    if os.getenv "TDL_FAULT" then -- an injected "not ready" leaves a connection that is served for nothing
      assert.is_true(calls >= 60)
    else
      becomes(server, "busy", 0)
      assert.equal(60, calls)
    end
    assert.equal(20, server:stats().accepted)
    for i = 1, 20 do conns[i]:close() end
    becomes(server, "conns", 0)
    assert.is_true(server:shutdown(5))
    assert.is_true(server:close())
    assert.same({ nil, "closed" }, { server:close() })
    assert.same({ nil, "closed" }, { server:stats() })
    assert.same({ nil, "closed" }, { server:shutdown() })
  end))

  it("closes who is idle for too long, and admits no more than it is told", inside(function()
    local server, address = start(echo_line, { idle_timeout = 0.5, max_conns = 1 })
    local first, second = assert(treadle.dial("tcp", address)), assert(treadle.dial("tcp", address))
    first:write "a\n"
    second:write "b\n" -- in the backlog until the first is gone
    assert.equal("a", first:read "l")
    assert.same({ nil, "closed", "" }, { first:read(1) })
    assert.equal("b", second:read "l")
    assert.is_true(server:stats().timeouts >= 1)
    server:close()
  end))

  it("is shut down: the idle are closed, the busy finish, or are closed when time is up", inside(function()
    for _, patient in ipairs { true, false } do
      local gate, begun = treadle.chan(), treadle.chan()
      local server, address = start(function(c)
        c:read "l"
        begun:send(true)
        gate:recv()
        if not c:write "done\n" then c:close() end
      end)
      local idle, busy = assert(treadle.dial("tcp", address)), assert(treadle.dial("tcp", address))
      busy:write "go\n"
      begun:recv()
      becomes(server, "conns", 2)
      if patient then
        local opener = treadle.go(function()
          assert.same({ nil, "closed", "" }, { idle:read(1) })
          gate:close()
        end)
        assert.is_true(server:shutdown(20))
        opener:join()
        assert.equal("done", busy:read "l")
      else
        assert.same({ nil, "timeout" }, { server:shutdown(0.01) })
        assert.same({ nil, "closed", "" }, { busy:read "l" })
        gate:close()
      end
      server:close()
    end
  end))

  it("G6: cancels its handlers when the time is up, whatever they wait in; the next shutdown waits", inside(function()
    for _, how in ipairs { "shutdown", "close" } do
      local never, begun, told = treadle.chan(), 0, {}
      local wait_in = {
        read = function(c) return c:read "l" end,
        sleep = function() return treadle.sleep(3600) end,
        recv = function()
          local _, _, err = never:recv()
          return nil, err
        end,
      }
      local server, address = start(function(c)
        local what = c:read "l"
        begun = begun + 1
        local _, err = wait_in[what](c)
        told[#told + 1] = what .. " " .. tostring(err)
      end)
      local clients = {}
      for what in pairs(wait_in) do
        local c = assert(treadle.dial("tcp", address))
        c:write(what, "\n")
        clients[#clients + 1] = c
      end
      while begun < 3 do treadle.sleep(0.001) end
      if how == "shutdown" then
        assert.same({ nil, "timeout" }, { server:shutdown(0.01) })
        assert.is_true(server:shutdown(20))
        assert.equal(3, #told)
      end
      server:close()
      while #told < 3 do treadle.sleep(0.001) end
      table.sort(told)
      assert.same({ "read cancelled", "recv cancelled", "sleep cancelled" }, told)
      for _, c in ipairs(clients) do
        assert.same({ nil, "closed", "" }, { c:read "l" })
        c:close()
      end
    end
  end))

  it("does not wait for a connection that its handler gave to another state", inside(function()
    local given = treadle.shared_chan(1)
    local listener = assert(treadle.listen("tcp", "127.0.0.1:0"))
    local address = listener:address()
    local server = assert(treadle.serve(listener, function(conn) given:send { conn, (conn:read "l") } end))
    local worker = treadle.spawn(function(conns)
      local conn, first = unpack((conns:recv()))
      conn:write("from the worker: ", first, "\n")
      for line in conn:lines() do conn:write("from the worker: ", line, "\n") end
    end, given)
    local conn = assert(treadle.dial("tcp", address))
    conn:write "hello\n"
    assert.equal("from the worker: hello", conn:read "l")
    assert.same({ 0, 0 }, { server:stats().conns, server:stats().busy })
    assert.is_true(server:shutdown(10))
    conn:write "again\n"
    assert.equal("from the worker: again", conn:read "l")
    conn:close()
    worker:join()
    server:close()
  end))

  it("does not cancel the handler that closes it", inside(function()
    local over = treadle.chan(1)
    local server, address
    server, address = start(function()
      server:close()
      over:send(treadle.sleep(0.001) or false)
    end)
    local c = assert(treadle.dial("tcp", address))
    c:write "x"
    assert.same({ true, true }, { over:recv() })
    c:close()
  end))

  it("refuses what makes no sense", inside(function()
    local l = assert(treadle.listen("tcp", "127.0.0.1:0"))
    raises(function() treadle.serve(l) end, "serve expects a handler")
    raises(function() treadle.serve(nil, print) end, "serve expects a listener")
    raises(function() treadle.serve({}, print) end, "serve expects a listener")
    raises(function() treadle.serve(l, print, { idle_timeout = 0 }) end, "idle timeout")
    raises(function() treadle.serve(l, print, { max_conns = 1.5 }) end, "number of connections")
    assert.same({ nil, "busy" }, { treadle.serve({ l, l }, print) })
    l:close()
    assert.same({ nil, "closed" }, { treadle.serve(l, print) })
  end))
end)

describe("a connection", function()
  it("reads up to a delimiter", inside(function()
    local near, far = pair()
    near:write "head\r\n\r"
    treadle.yield()
    near:write "\nbody;"
    assert.equal("head\r\n\r\n", far:read_until "\r\n\r\n")
    assert.equal("body;", far:read_until ";")
    near:write "12345678"
    assert.same({ nil, "too long", "12345678" }, { far:read_until("xy", 8) })
    near:write "half"
    near:close()
    assert.same({ nil, "closed", "half" }, { far:read_until "xy" })
    far:close()
    assert.same({ nil, "closed", "" }, { far:read_until "xy" })
    raises(function() far:read_until "" end, "1 to 255")
    raises(function() far:read_until("xy", 1) end, "limit")
  end))

  it("D30: copies to another until the end, or so many bytes", inside(function()
    local near, middle = pair()
    local onward, far = pair "unix"
    local text = ("0123456789"):rep(50000)
    treadle.go(function()
      near:write(text)
      near:shutdown "write"
    end)
    local reader = treadle.go(function() return far:read(#text) end)
    assert.equal(7, middle:copy(onward, 7))
    assert.equal(#text - 7, middle:copy(onward))
    assert.equal(text, reader:join())
    assert.equal(0, middle:copy(onward))
    middle:settimeout(0.01)
    far:close()
    onward:close()
    assert.same({ nil, "closed", 0 }, { middle:copy(onward) })
    raises(function() middle:copy(3) end, "copy expects a connection")
  end))

  it("D31: sends files", inside(function()
    local near, far = pair()
    local path = os.tmpname()
    local f = assert(io.open(path, "w"))
    f:write(("abcdefghij"):rep(20000))
    f:close()
    local file = assert(treadle.open(path))
    local reader = treadle.go(function() return far:read(200000 + 5) end)
    assert.equal(200000, near:send_file(file, 0))
    assert.equal(5, near:send_file(file, 3, 5))
    assert.equal(("abcdefghij"):rep(20000) .. "defgh", reader:join())
    file:close()
    os.remove(path)
    assert.same({ nil, "closed", 0 }, { near:send_file(file, 0) })
    raises(function() near:send_file "x" end, "send_file expects")
  end))
end)
