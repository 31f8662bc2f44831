-- Descriptors of the program's own, options of sockets, and what Unix sockets
-- and pipes in memory have beyond streams.
local ffi = require "ffi"
local treadle = require "treadle"
local helper = require "helper"
local inside, raises, pair = helper.inside, helper.raises, helper.pair

ffi.cdef [[
int pipe(int *fds);
int eventfd(unsigned int initval, int flags);
int socketpair(int domain, int type, int protocol, int *fds);
int open(const char *path, int flags, ...);
int close(int fd);
int getpid(void);
unsigned int getuid(void);
]]

local function pipe()
  local fds = ffi.new "int[2]"
  assert(ffi.C.pipe(fds) == 0)
  return fds[0], fds[1]
end

describe("a descriptor of the program's", function()
  it("D35: is read and written, and ends with its writer", inside(function()
    local r, w = pipe()
    r, w = assert(treadle.fd(r)), assert(treadle.fd(w))
    local reading = treadle.go(r.read, r)
    treadle.yield()
    assert.equal(5, w:write "bytes")
    local got = reading:join()
    while #got < 5 do got = got .. r:read() end -- it returns what is there
    assert.equal("bytes", got)
    assert.is_true(w:wait_writable())
    local big = ("x"):rep(300000)
    treadle.go(function()
      assert.equal(#big, w:write(big))
      w:close()
    end)
    local parts = {}
    for data in function() return (r:read(50000)) end do parts[#parts + 1] = data end
    assert.equal(big, table.concat(parts))
    assert.same({ nil, "closed" }, { r:read() })
    r:close()
  end))

  it("D35: is waited for, with a limit", inside(function()
    local f = assert(treadle.fd(ffi.C.eventfd(0, 0)))
    f:settimeout(0.01)
    assert.same({ nil, "timeout" }, { f:wait_readable() })
    f:settimeout(nil)
    local waiting = treadle.go(f.wait_readable, f)
    treadle.yield()
    f:write(ffi.string(ffi.new("uint64_t[1]", 3), 8))
    assert.is_true(waiting:join())
    assert.is_true(f:wait_readable()) -- still there
    assert.equal(8, #f:read())
    waiting = treadle.go(f.wait_readable, f)
    treadle.yield()
    assert.same({ nil, "busy" }, { f:release() })
    f:close()
    assert.same({ nil, "closed" }, { waiting:join() })
    for _, call in ipairs { f.wait_readable, f.wait_writable, f.read, f.number, f.release, f.close } do
      assert.same({ nil, "closed" }, { call(f) })
    end
    assert.equal("descriptor (closed)", tostring(f))
  end))

  it("D33: is given back, or duplicated", inside(function()
    local r, w = pipe()
    local f = assert(treadle.fd(r))
    assert.equal(r, f:number())
    assert.equal(r, f:release())
    assert.same({ nil, "closed" }, { f:release() })
    local copy = assert(treadle.fd(r, { dup = true }))
    assert.not_equal(r, copy:number())
    local writer = assert(treadle.fd(w))
    writer:write "for the copy"
    assert.equal("for the copy", copy:read())
    copy:close()
    writer:close()
    assert.equal(0, ffi.C.close(r))
  end))

  it("D35: says what cannot be polled", inside(function()
    local file = ffi.C.open("/proc/self/exe", 0)
    assert.same({ nil, "cannot be polled" }, { treadle.fd(file) })
    assert.same({ nil, "cannot be polled" }, { treadle.adopt(file) })
    assert.equal(0, ffi.C.close(file))
    assert.same({ nil, "bad descriptor" }, { treadle.fd(123456) })
    raises(function() treadle.fd(-1) end, "fd_spec.lua:%d+: treadle: a descriptor is a number")
    raises(function() treadle.fd("x") end, "fd_spec.lua:%d+: treadle: a descriptor is a number")
  end))

  it("D33: can be a connection, with lines", inside(function()
    local r, w = pipe()
    local from, to = assert(treadle.adopt(r)), assert(treadle.adopt(w))
    to:write "one\ntwo\nthree"
    assert.equal("one", from:read "l")
    assert.same({ nil, "busy" }, { from:release() }) -- more is buffered
    to:close()
    local lines = {}
    for line in from:lines() do lines[#lines + 1] = line end
    assert.same({ "two", "three" }, lines)
    assert.equal(r, from:release())
    assert.equal(0, ffi.C.close(r))
    assert.same({ nil, "closed" }, { from:release() })
  end))
end)

describe("a unix connection", function()
  it("D2: unixpacket keeps the bounds of messages", inside(function()
    local listener = assert(treadle.listen("unixpacket", "@"))
    local near = assert(treadle.dial("unixpacket", listener:address()))
    local far = assert(listener:accept())
    for _, text in ipairs { "one", "three", ("x"):rep(5000) } do near:write(text) end
    assert.same({ "one", "three" }, { far:read_some(), far:read_some() })
    assert.same({ nil, "truncated", "xxxx" }, { far:read_some(4) })
    near:close()
    assert.same({ nil, "closed", "" }, { far:read_some() })
    far:close()
    listener:close()
  end))

  it("D33: passes descriptors", inside(function()
    local near, far = pair "unix"
    local r, w = pipe()
    assert.equal(3, near:send_fds("two", { r, w }))
    ffi.C.close(r)
    ffi.C.close(w)
    local data, fds = far:recv_fds()
    assert.equal("two", data)
    assert.equal(2, #fds)
    local reader, writer = assert(treadle.fd(fds[1])), assert(treadle.fd(fds[2]))
    writer:write "through"
    assert.equal("through", reader:read())
    assert.equal(5, near:send_fds("three", { 0, 0, 0 }))
    assert.same({ nil, "truncated" }, { far:recv_fds(100, 2) })
    near:write "none"
    assert.same({ "none", {} }, { far:recv_fds() })
    assert.same({ nil, "bad descriptor", 0 }, { near:send_fds("x", { 123456 }) })
    near:close()
    assert.same({ nil, "closed" }, { far:recv_fds() })
    assert.same({ nil, "closed", 0 }, { near:send_fds("x", { 0 }) })
    reader:close()
    writer:close()
    far:close()
    local a, b = pair()
    assert.same({ nil, "not supported", 0 }, { a:send_fds("x", { 0 }) })
    assert.same({ nil, "not supported" }, { a:recv_fds() })
    raises(function() a:send_fds("", { 0 }) end, "fd_spec.lua:%d+: treadle: send_fds expects")
    raises(function() a:send_fds("x", {}) end, "fd_spec.lua:%d+: treadle: send_fds expects")
    raises(function() a:recv_fds(0) end, "fd_spec.lua:%d+: treadle: recv_fds expects")
    a:close()
    b:close()
  end))

  it("knows its peer", inside(function()
    local near, far = pair "unix"
    local who = far:peercred()
    assert.equal(ffi.C.getpid(), who.pid)
    assert.equal(ffi.C.getuid(), who.uid)
    near:close()
    far:close()
    near, far = pair()
    assert.same({ nil, "not supported" }, { near:peercred() })
    near:close()
    far:close()
    assert.same({ nil, "closed" }, { near:peercred() })
  end))
end)

describe("options", function()
  it("F8: are set and read by name", inside(function()
    local near, far = pair()
    local values = {
      nodelay = false, keepalive = 30, keepalive_interval = 5, keepalive_count = 3, linger = "reset", tos = 16, ttl = 9,
    }
    assert.is_true(near:option "nodelay")
    assert.is_false(near:option "keepalive")
    assert.equal("flush", near:option "linger")
    for name, value in pairs(values) do
      assert.is_true(near:setoption(name, value))
      assert.equal(value, near:option(name), name)
    end
    assert.is_true(near:setoption("keepalive", false))
    assert.is_true(near:setoption("linger", "flush"))
    assert.is_true(near:setoption("read_buffer", 65536))
    assert.is_true(near:option "read_buffer" >= 65536)
    assert.same({ nil, "invalid argument" }, { near:setoption("ttl", 0) })
    near:close()
    far:close()
    assert.same({ nil, "closed" }, { near:option "ttl" })
    assert.same({ nil, "closed" }, { near:setoption("ttl", 3) })
    raises(function() near:setoption("linger", 3) end, "fd_spec.lua:%d+: treadle: linger is")
    raises(function() near:setoption("tos", "low") end, "fd_spec.lua:%d+: treadle: tos is a whole number")
  end))

  it("F8: tcp_info tells times and counts", inside(function()
    local near, far = pair()
    for _ = 1, 5 do
      near:write "question\n"
      far:read "l"
      far:write "answer\n"
      near:read "l"
    end
    local info = assert(near:tcp_info())
    assert.equal(1, info.state)
    assert.is_true(info.rtt > 0 and info.rtt < 10)
    assert.is_true(info.rto > 0 and info.mss > 0 and info.cwnd > 0)
    assert.equal(35, info.bytes_received)
    near:close()
    far:close()
    assert.same({ nil, "closed" }, { near:tcp_info() })
  end))

  it("F8: listeners share an address", inside(function()
    local first = assert(treadle.listen("tcp", "127.0.0.1:0", { reuseport = true, backlog = 16 }))
    local second = assert(treadle.listen("tcp", first:address(), { reuseport = true }))
    local served = 0
    for _, listener in ipairs { first, second } do
      treadle.go(function()
        for conn in listener:accepts() do
          served = served + 1
          conn:close()
        end
      end)
    end
    for _ = 1, 10 do
      local conn = assert(treadle.dial("tcp", first:address()))
      conn:read "a"
      conn:close()
    end
    assert.equal(10, served)
    first:close()
    second:close()
    raises(function() treadle.listen("tcp", ":0", { backlog = -1 }) end, "fd_spec.lua:%d+: treadle: the backlog")
    raises(function() treadle.listen("tcp", ":0", 7) end, "fd_spec.lua:%d+: treadle: listen expects a table")
  end))
end)

describe("dial", function()
  it("D18: takes the first of several addresses that answers", inside(function()
    local listener = assert(treadle.listen("tcp", "127.0.0.1:0"))
    local closed = assert(treadle.listen("tcp", "127.0.0.1:0"))
    local nobody = closed:address()
    closed:close()
    local conn = assert(treadle.dial("tcp", { nobody, listener:address() }))
    assert.equal(listener:address(), conn:peername())
    conn:close()
    assert.same({ nil, "connection refused", "dial tcp " .. nobody .. ", " .. nobody .. ": connection refused" },
      { treadle.dial("tcp", { nobody, nobody }) })
    assert.same({ nil, "bad port", "dial tcp x: bad port" }, { treadle.dial("tcp", { listener:address(), "x" }) })
    raises(function() treadle.dial("tcp", {}) end, "fd_spec.lua:%d+: treadle: dial expects 1 to 256 addresses")
    listener:close()
  end))

  it("D18: comes from a local address", inside(function()
    local listener = assert(treadle.listen("tcp", "127.0.0.1:0"))
    local conn = assert(treadle.dial("tcp", listener:address(), { from = "127.0.0.5:0", timeout = 5 }))
    assert.matches("^127%.0%.0%.5:", conn:sockname())
    conn:close()
    assert.equal("bad port", select(2, treadle.dial("tcp", listener:address(), { from = "nonsense" })))
    assert.equal("bad address", select(2, treadle.dial("tcp", listener:address(), { from = "127.0.0.1:0\0" })))
    listener:close()
  end))
end)

describe("a pipe in memory", function()
  it("D1: joins two connections", inside(function()
    for _, capacity in ipairs { 0, 1, 100, 2 ^ 20 } do
      local a, b = treadle.pipe(capacity)
      local text = ("line of some length\n"):rep(capacity == 1 and 20 or 500)
      treadle.go(function()
        assert.equal(#text, a:write(text))
        a:shutdown "write"
      end)
      local n = 0
      for line in b:lines() do
        assert.equal("line of some length", line)
        n = n + 1
      end
      assert.equal(#text / 20, n)
      treadle.go(b.write, b, "back\n")
      assert.equal("back", a:read "l")
      assert.equal("pipe", a:peername())
      a:close()
      b:close()
    end
  end))

  it("D13: an unbuffered write waits for its reader, and takes back what nobody read", inside(function()
    local a, b = treadle.pipe()
    a:settimeout(0.02)
    assert.same({ nil, "timeout", 0 }, { a:write "abcdef" })
    a:settimeout(nil)
    treadle.go(a.write, a, "new")
    assert.equal("new", b:read(3))
    b:close()
    assert.same({ nil, "broken pipe", 0 }, { a:write "x" })
    a:close()
    raises(function() treadle.pipe(-1) end, "fd_spec.lua:%d+: treadle: the capacity")
  end))
end)
