-- Listeners and connections.
local ffi = require "ffi"
local treadle = require "treadle"
local helper = require "helper"
local inside, raises, pair = helper.inside, helper.raises, helper.pair

ffi.cdef [[
int setsockopt(int fd, int level, int name, const void *value, unsigned int size);
]]

--- Closes so that the peer sees a reset.
local function reset(conn)
  ffi.C.setsockopt(conn:fd(), 1, 13, ffi.new("int[2]", 1, 0), 8) -- SO_LINGER, 0 s
  conn:close()
end

describe("a connection", function()
  it("D1: carries 1 MiB in pieces of 1 KiB, then ends", inside(function()
    local near, far = pair()
    local piece = ("0123456789abcdef"):rep(64)
    treadle.go(function()
      for _ = 1, 1024 do assert.equal(1024, near:write(piece)) end
      near:close()
    end)
    for _ = 1, 1024 do assert.equal(piece, far:read(1024)) end
    assert.same({ nil, "closed", "" }, { far:read(1) })
    assert.same({ nil, "closed", "" }, { far:read_some() })
    assert.same({ nil, "closed", "" }, { far:read "l" })
    assert.equal("", far:read "a")
  end))

  it("D2: plays ping-pong to 1000, over TCP and a Unix socket", inside(function()
    for _, network in ipairs { "tcp", "unix" } do
      local near, far = pair(network)
      treadle.go(function() for line in far:lines() do far:write(tonumber(line) + 1, "\n") end end)
      local n = 0
      while n < 1000 do
        near:write(n, "\n")
        n = tonumber((near:read "l"))
      end
      assert.equal(1000, n)
      near:close()
    end
  end))

  it("reads frames of every kind across any pieces", inside(function()
    local near, far = pair()
    local text = "one\ntwo\r\n\n\r\nthr\ree\r\n12345rest of\nit"
    local function parts(size)
      treadle.go(function()
        for i = 1, #text, size do
          near:write(text:sub(i, i + size - 1))
          treadle.yield()
        end
      end)
      assert.same({ "one", "two", "", "" }, { far:read "l", far:read "l", far:read "l", far:read "l" })
      assert.equal("thr\ree\r\n", far:read "L")
      assert.equal("12345", far:read(5))
      assert.equal("rest of", far:read "l")
      assert.equal("it", far:read(2))
    end
    for _, size in ipairs { 1, 2, 3, 7, 1000 } do parts(size) end
    near:write "last\nand all\nthe rest"
    near:shutdown "write"
    assert.equal("last", far:read "l")
    assert.equal("and all\nthe rest", far:read "a")
    assert.equal("", far:read "a")
  end))

  it("gives read_some what is there, up to the limit", inside(function()
    local near, far = pair()
    near:write "abcdef"
    treadle.sleep(0.01)
    assert.equal("ab", far:read_some(2))
    assert.equal("cdef", far:read_some())
    local task = treadle.go(far.read_some, far)
    treadle.yield()
    near:write "g"
    assert.equal("g", task:join())
  end))

  it("counts a last line without its end", inside(function()
    local near, far = pair()
    near:write "a\nb"
    near:close()
    local lines = {}
    for line in far:lines() do lines[#lines + 1] = line end
    assert.same({ "a", "b" }, lines)
    near, far = pair()
    near:write "c"
    near:close()
    assert.equal("c", far:read "L")
  end))

  it("gives what had come with an error, and has consumed it", inside(function()
    local near, far = pair()
    near:write "abc"
    near:close()
    assert.same({ nil, "closed", "abc" }, { far:read(10) })
    assert.same({ nil, "closed", "" }, { far:read(10) })

    near, far = pair()
    near:write "no end"
    far:settimeout(0.02)
    assert.same({ nil, "timeout", "no end" }, { far:read "l" })
    near:write "of line\n"
    assert.equal("of line", far:read "l")
  end))

  it("hands the bytes on when the reader is cancelled", inside(function()
    local near, far = pair()
    near:write "12"
    local task = treadle.go(function() return far:read(4) end)
    treadle.sleep(0.01)
    task:cancel()
    assert.same({ nil, "cancelled", "12" }, { task:join() })
    near:write "3456"
    assert.equal("3456", far:read(4))
  end))

  it("refuses lines and streams that are too long, and gives what came", inside(function()
    local near, far = pair()
    near:write(("x"):rep(20))
    treadle.sleep(0.01)
    local line, err, partial = far:read("l", 10)
    assert.is_nil(line)
    assert.equal("too long", err)
    assert.equal(("x"):rep(20), partial)
    near:write "short\n"
    assert.equal("short", far:read("l", 10))
    near:write(("y"):rep(30))
    near:close()
    line, err = far:read("a", 20)
    assert.is_nil(line)
    assert.equal("too long", err)
  end))

  it("D23: reads and writes of nothing do not wait", inside(function()
    local near, far = pair()
    assert.equal("", near:read(0))
    assert.equal(0, near:write "")
    assert.equal(0, near:write {})
    far:close()
    near:close()
    assert.same({ nil, "closed", "" }, { near:read(0) })
  end))

  it("writes strings, numbers and nested tables as one", inside(function()
    local near, far = pair()
    assert.equal(11, near:write("a", 1, { "b", { 2.5, "c" }, {} }, "\0", "\n", 77 - 7))
    assert.equal("a1b2.5c\0\n70", far:read(11))
  end))

  it("passes 32 MiB both ways at once through full buffers", inside(function()
    local near, far = pair()
    local size, chunk = 2 ^ 25, ("treadle!"):rep(2 ^ 13)
    local function send(conn)
      return treadle.go(function()
        for _ = 1, size / #chunk do assert(conn:write(chunk)) end
        conn:shutdown "write"
      end)
    end
    local function receive(conn)
      return treadle.go(function()
        local n = 0
        while true do
          local data = conn:read_some()
          if not data then return n end
          assert(data:sub(1, 1) == chunk:sub(n % 8 + 1, n % 8 + 1))
          n = n + #data
        end
      end)
    end
    local a, b = receive(near), receive(far)
    send(near)
    send(far)
    assert.equal(size, a:join())
    assert.equal(size, b:join())
  end))

  it("keeps the writes of several whole, and the reads of several too (D37)", inside(function()
    local near, far = pair()
    local wg, total, whole = treadle.waitgroup(), 0, true
    for i = 1, 4 do
      wg:go(function()
        local block = tostring(i):rep(100000)
        for _ = 1, 5 do assert(near:write(block)) end
      end)
    end
    local readers = treadle.waitgroup()
    for _ = 1, 2 do
      readers:go(function()
        while true do
          local block = far:read(100000)
          if not block then return end
          total = total + #block
          whole = whole and block == block:sub(1, 1):rep(100000)
        end
      end)
    end
    wg:wait()
    near:close()
    readers:wait()
    assert.equal(2000000, total)
    assert.is_true(whole)
  end))

  it("D4, D7: times out each operation by itself, and works on", inside(function()
    local near, far = pair()
    near:settimeout(0.03)
    for _ = 1, 3 do
      local begin = treadle.now()
      assert.same({ nil, "timeout", "" }, { near:read(1) })
      local took = treadle.now() - begin
      assert.is_true(took >= 0.03 and took < 1)
      assert.equal(2, near:write "ok")
    end
    assert.equal("okokok", far:read(6))
    far:write "x"
    assert.equal("x", near:read(1))
    near:settimeout(nil)
    treadle.go(function() treadle.sleep(0.06) far:write "y" end)
    assert.equal("y", near:read(1))
  end))

  it("times out a write into full buffers, and says how much went out", inside(function()
    local near, far = pair()
    near:settimeout(0.2)
    local data = ("x"):rep(2 ^ 26)
    local n, err, written = near:write(data)
    assert.is_nil(n)
    assert.equal("timeout", err)
    assert.is_true(written > 0 and written < #data)
    near:close()
    assert.equal(written, #far:read "a")
  end))

  it("D15, D18: takes timeouts of any size", inside(function()
    local near, far = pair()
    for _, seconds in ipairs { 1e-9, 1e-6, 0.001, 0.01, 0 } do
      near:settimeout(seconds)
      assert.same({ nil, "timeout", "" }, { near:read(1) })
    end
    for _, seconds in ipairs { 1e10, math.huge, 1e300, 9.2e9 } do
      near:settimeout(seconds)
      far:write "x"
      assert.equal("x", near:read(1))
    end
    raises(function() near:settimeout "1" end, "net_spec.lua:%d+: treadle: seconds expected")
    raises(function() near:settimeout(0 / 0) end, "nan")
  end))

  it("D8: close wakes who reads and who writes", inside(function()
    local near, far = pair()
    local reader = treadle.go(function() return near:read(1) end)
    local liner = treadle.go(function() return near:read "l" end)
    local writer = treadle.go(function() return near:write(("x"):rep(2 ^ 26)) end)
    treadle.sleep(0.02)
    assert.is_true(near:close())
    assert.same({ nil, "closed", "" }, { reader:join() })
    assert.same({ nil, "closed", "" }, { liner:join() })
    local n, err = writer:join()
    assert.is_nil(n)
    assert.equal("closed", err)
    assert(far)
  end))

  it("that is closed says so to every call, a second close too", inside(function()
    local near, far = pair()
    assert.is_true(near:close())
    for name, call in pairs {
      close = near.close, peername = near.peername, sockname = near.sockname, fd = near.fd, read_some = near.read_some,
      shutdown = near.shutdown, settimeout = near.settimeout, write = function(c) return c:write "x" end,
      read = function(c) return c:read(1) end, line = function(c) return c:read "l" end, all = function(c) return c:read "a" end,
      none = function(c) return c:read(0) end,
    } do
      local r, err = call(near)
      assert.is_nil(r, name)
      assert.equal("closed", err, name)
    end
    for _ in near:lines() do error "a line of a closed connection" end
    assert.equal("connection (closed)", tostring(near))
    assert.same({ nil, "closed", "" }, { far:read(1) })
  end))

  it("closed in the turn in which its reader's data arrived is closed for the reader", inside(function()
    for _ = 1, 20 do
      local near, far = pair()
      local got, n = {}, 0
      -- both wake in one batch, in either order
      for i = 1, 2 do
        treadle.go(function()
          if i == 1 then got = { far:read(3) } else near:read(3) far:close() end
          n = n + 1
        end)
      end
      treadle.yield()
      near:write "def"
      far:write "abc"
      while n < 2 do treadle.sleep(0.001) end
      assert.is_true(got[1] == "def" or got[2] == "closed")
      near:close()
    end
  end))

  it("D21: shuts down one direction", inside(function()
    local near, far = pair()
    assert.is_true(near:shutdown "write")
    assert.equal("", far:read "a")
    assert.equal(4, far:write "back")
    assert.equal("back", near:read(4))
    local n, err = near:write "x"
    assert.is_nil(n)
    assert.equal("broken pipe", err)
    assert.is_true(far:shutdown "read")
    assert.same({ nil, "closed", "" }, { far:read(1) })
    near, far = pair()
    assert.is_true(near:shutdown())
    assert.equal("", far:read "a")
    raises(function() near:shutdown "sideways" end, "net_spec.lua:%d+: treadle: shutdown expects")
  end))

  it("D22: tells a reset from the end", inside(function()
    local near, far = pair()
    reset(near)
    assert.same({ nil, "connection reset", "" }, { far:read(1) })
    near, far = pair()
    local reader = treadle.go(function() return far:read "l" end)
    treadle.yield()
    reset(near)
    assert.same({ nil, "connection reset", "" }, { reader:join() })
  end))

  it("that the peer has closed breaks the pipe without a signal", inside(function()
    local near, far = pair()
    far:close()
    local err
    for _ = 1, 100 do
      err = select(2, near:write "x")
      if err then break end
      treadle.sleep(0.001)
    end
    assert.is_true(err == "broken pipe" or err == "connection reset", err)
  end))

  it("knows its addresses and descriptor", inside(function()
    local near, far = pair()
    assert.equal(near:sockname(), far:peername())
    assert.equal(near:peername(), far:sockname())
    assert.matches("^127%.0%.0%.1:%d+$", near:peername())
    assert.is_true(near:fd() > 2)
    assert.equal("connection " .. near:peername(), tostring(near))
  end))

  it("refuses wrong arguments at the caller's line", inside(function()
    local near = pair()
    for _, what in ipairs { "x", -1, 1.5, 2 ^ 31, {}, true } do
      raises(function() near:read(what) end, "net_spec.lua:%d+: treadle: ")
    end
    raises(function() near:read() end, "net_spec.lua:%d+: treadle: read expects")
    raises(function() near:read_some(0) end, "net_spec.lua:%d+: treadle: read_some")
    raises(function() near:read_some "1" end, "net_spec.lua:%d+: treadle: the limit")
    raises(function() near:read("l", -1) end, "net_spec.lua:%d+: treadle: the limit of a line")
    raises(function() near:write(nil) end, "net_spec.lua:%d+: treadle: write expects strings")
    raises(function() near:write("a", true) end, "got boolean")
    raises(function() near:write { "a", { print } } end, "got function")
    raises(function() near:lines "x" end, "net_spec.lua:%d+: treadle: the limit of a line")
  end))

  it("that is dropped is closed by the collector", inside(function()
    helper.collect()
    local before = treadle.metric "connections"
    local far = select(2, pair())
    helper.collect()
    assert.same({ nil, "closed", "" }, { far:read(1) })
    far:close()
    assert.is_true(treadle.metric "connections" <= before)
  end))

  it("D9: stands a hundred mixed calls at once", inside(function()
    local near, far = pair()
    local wg = treadle.waitgroup()
    for i = 1, 100 do
      wg:go(function() near:write "x" end)
      wg:go(function() far:read_some(1) end)
      wg:go(function() near:peername() near:sockname() end)
      wg:go(function() far:settimeout(i % 2 == 0 and 5 or nil) end)
    end
    wg:wait()
    near:write "end\n"
    assert.equal("end", far:read "l")
  end))
end)

describe("listen and dial", function()
  it("D26: survives running out of descriptors", function()
    local out, status = helper.script [[
      local ffi = require "ffi"
      ffi.cdef "typedef struct { unsigned long soft, hard; } limits; int setrlimit(int, const limits *); int dup(int); int close(int);"
      local treadle = require "treadle"
      treadle.run(function()
        local listener = assert(treadle.listen("tcp", "127.0.0.1:0"))
        local near = {}
        for i = 1, 2 do near[i] = assert(treadle.dial("tcp", listener:address())) end
        ffi.C.setrlimit(7, ffi.new("limits", 64, 64))
        local spare = {}
        repeat
          local fd = ffi.C.dup(1)
          if fd >= 0 then spare[#spare + 1] = fd end
        until fd < 0
        print(select(2, listener:accept()))
        print((select(2, treadle.dial("tcp", listener:address()))))
        print((select(2, treadle.listen("tcp", "127.0.0.1:0"))))
        local got
        local loop = treadle.go(function() for conn in listener:accepts() do got = conn return end end)
        treadle.sleep(0.03)
        assert(not got)
        for _, fd in ipairs(spare) do ffi.C.close(fd) end
        loop:join()
        got:write "hello"
        print(near[1]:read(5))
      end)]]
    assert.equal("too many open files\ntoo many open files\ntoo many open files\nhello\n", out)
    assert.equal(0, status)
  end)

  it("gives short stable strings for what fails, and a text with the address", inside(function()
    local listener = assert(treadle.listen("tcp", "127.0.0.1:0"))
    local address = listener:address()
    assert.same({ nil, "address in use", "listen tcp " .. address .. ": address in use" },
      { treadle.listen("tcp", address) })
    listener:close()
    assert.same({ nil, "connection refused", "dial tcp " .. address .. ": connection refused" },
      { treadle.dial("tcp", address) })
    for bad, err in pairs {
      [""] = "bad address", ["127.0.0.1"] = "bad port", ["127.0.0.1:x"] = "bad port", ["256.0.0.1:80"] = "bad address",
      ["127.0.0.1:99999"] = "bad port", ["[::1:80"] = "bad address", ["a b:1"] = "bad address",
      ["127.0.0.1:80\0x"] = "bad address",
    } do
      assert.same({ nil, err, "listen tcp " .. bad .. ": " .. err }, { treadle.listen("tcp", bad) }, bad)
      assert.same({ nil, err, "dial tcp " .. bad .. ": " .. err }, { treadle.dial("tcp", bad) }, bad)
    end
    assert.equal("unknown network", select(2, treadle.dial("carrier pigeon", "127.0.0.1:1")))
    assert.equal("no such file or directory", select(2, treadle.dial("unix", "/nonexistent/socket")))
  end))

  it("refuses wrong arguments at the caller's line", inside(function()
    for _, call in ipairs { treadle.listen, treadle.dial } do
      raises(function() call(nil, "x") end, "net_spec.lua:%d+: treadle: the network must be a string")
      raises(function() call("tcp", 80) end, "net_spec.lua:%d+: treadle: the address must be a string")
    end
    raises(function() treadle.dial("tcp", "127.0.0.1:1", 5) end, "net_spec.lua:%d+: treadle: dial expects a table")
    raises(function() treadle.dial("tcp", "127.0.0.1:1", { timeout = "5" }) end, "seconds expected")
  end))

  it("speaks tcp4, tcp6 and localhost, and knows the port", inside(function()
    for _, case in ipairs { { "tcp4", "127.0.0.1:0" }, { "tcp6", "[::1]:0" }, { "tcp", "localhost:0" } } do
      local listener, err = treadle.listen(case[1], case[2])
      if not (case[1] == "tcp6" and err) then
        assert(listener, err)
        assert.is_true(listener:port() > 0)
        assert.equal(tostring(listener:port()), listener:address():match ":(%d+)$")
        local conn = assert(treadle.dial(case[1], listener:address()))
        assert(listener:accept()):write "hi"
        assert.equal("hi", conn:read(2))
        listener:close()
      end
    end
  end))

  it("leaves no path of a Unix socket behind", inside(function()
    local path = os.tmpname()
    os.remove(path)
    local listener = assert(treadle.listen("unix", path))
    assert.equal(0, listener:port())
    assert.equal(path, listener:address())
    assert(treadle.dial("unix", path)):write "x"
    assert.equal("x", assert(listener:accept()):read(1))
    listener:close()
    assert.is_nil(io.open(path))
  end))

  it("D18: dials with timeouts of any size", inside(function()
    local listener = assert(treadle.listen("tcp", "127.0.0.1:0"))
    for _, seconds in ipairs { 0, -1, -math.huge } do
      local begin = treadle.now()
      assert.equal("timeout", select(2, treadle.dial("tcp", listener:address(), { timeout = seconds })))
      assert.is_true(treadle.now() - begin < 0.1)
    end
    for _, seconds in ipairs { 5, 1e10, math.huge } do
      assert(treadle.dial("tcp", listener:address(), { timeout = seconds })):close()
    end
  end))

  it("D19: is not touched by a cancellation after the dial", inside(function()
    local listener = assert(treadle.listen("tcp", "127.0.0.1:0"))
    for _ = 1, 10 do
      local task = treadle.go(function() return treadle.dial("tcp", listener:address()) end)
      local conn = assert(task:join())
      task:cancel()
      assert(listener:accept()):write "ok"
      assert.equal("ok", conn:read(2))
    end
  end))
end)

describe("a listener", function()
  it("D21: closed wakes accept, refuses dials, and frees the port at once", inside(function()
    local listener = assert(treadle.listen("tcp", "127.0.0.1:0"))
    local address = listener:address()
    local accepting = treadle.go(function() return listener:accept() end)
    treadle.yield()
    assert.is_true(listener:close())
    assert.same({ nil, "closed" }, { accepting:join() })
    for name, call in pairs { close = listener.close, accept = listener.accept, port = listener.port, address = listener.address,
      settimeout = listener.settimeout } do
      assert.same({ nil, "closed" }, { call(listener) }, name)
    end
    for _ in listener:accepts() do error "a connection of a closed listener" end
    assert.equal("connection refused", select(2, treadle.dial("tcp", address)))
    listener = assert(treadle.listen("tcp", address))
    listener:close()
  end))

  it("D10: times out, and works on", inside(function()
    local listener = assert(treadle.listen("tcp", "127.0.0.1:0"))
    listener:settimeout(0.02)
    for _ = 1, 2 do
      local begin = treadle.now()
      assert.same({ nil, "timeout" }, { listener:accept() })
      assert.is_true(treadle.now() - begin >= 0.02)
    end
    local conn = assert(treadle.dial("tcp", listener:address()))
    assert.is_table(listener:accept())
    listener:settimeout(nil)
    treadle.go(function() treadle.sleep(0.04) treadle.dial("tcp", listener:address()) end)
    assert.is_table(listener:accept())
    raises(function() listener:settimeout "x" end, "net_spec.lua:%d+: treadle: seconds expected")
    assert(conn)
  end))

  it("D27: serves 10 acceptors and 100 dials, and close releases all", inside(function()
    local listener = assert(treadle.listen("tcp", "127.0.0.1:0"))
    local accepted, released, wg = 0, 0, treadle.waitgroup()
    for _ = 1, 10 do
      wg:go(function()
        while true do
          local conn, err = listener:accept()
          if not conn then
            released = released + (err == "closed" and 1 or 0)
            return
          end
          accepted = accepted + 1
          conn:close()
        end
      end)
    end
    for _ = 1, 100 do assert(treadle.dial("tcp", listener:address())):close() end
    local limit = treadle.now() + 5
    while accepted < 100 and treadle.now() < limit do treadle.sleep(0.001) end
    assert.equal(100, accepted)
    listener:close()
    wg:wait()
    assert.equal(10, released)
  end))

  it("that is dropped is closed by the collector", inside(function()
    helper.collect()
    local before = treadle.metric "listeners"
    assert(treadle.listen("tcp", "127.0.0.1:0"))
    helper.collect()
    assert.equal(before, treadle.metric "listeners")
  end))

  it("and its connections are closed when run ends", function()
    local listener, conn
    treadle.run(function()
      listener = assert(treadle.listen("tcp", "127.0.0.1:0"))
      conn = assert(treadle.dial("tcp", listener:address()))
    end)
    treadle.run(function()
      assert.is_nil((listener:accept()))
      assert.is_nil((conn:read(1)))
    end)
  end)
end)

describe("a descriptor of somebody else", function()
  it("can be waited for", inside(function()
    local watch = require "treadle.watch"
    ffi.cdef "int pipe(int *fds); long write(int fd, const void *data, unsigned long n); int close(int fd);"
    local fds = ffi.new "int[2]"
    ffi.C.pipe(fds)
    assert.is_true(watch.wait(fds[1], "write"))
    assert.same({ nil, "timeout" }, { watch.wait(fds[0], "read", 0.01) })
    local task = treadle.go(watch.wait, fds[0], "read")
    treadle.yield()
    ffi.C.write(fds[1], "x", 1)
    assert.is_true(task:join())
    assert.is_true(watch.wait(fds[0], "read"))
    task = treadle.go(watch.wait, fds[1], "read")
    treadle.yield()
    task:cancel()
    assert.same({ nil, "cancelled" }, { task:join() })
    ffi.C.close(fds[0])
    ffi.C.close(fds[1])
    raises(function() watch.wait(0, "sideways") end, "net_spec.lua:%d+: treadle: wait expects")
  end))
end)
