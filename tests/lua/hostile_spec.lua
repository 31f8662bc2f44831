-- What others do wrong is an error with a stable name, and the address is in its
-- text; the listener and the other connections go on.
local ffi = require "ffi"
local helper = require "helper"
local treadle = require "treadle"

pcall(ffi.cdef, "int open(const char *path, int flags, ...); int close(int fd);")
local F_DUPFD = 0

--- Runs f beside an echo server, and says afterwards whether that and a connection
--- from before still work.
local function beside_a_server(f)
  return helper.inside(function()
    local l = assert(treadle.listen("tcp", "127.0.0.1:0"))
    treadle.go(function()
      while true do
        local c = l:accept()
        if not c then return end
        treadle.go(function()
          for line in c:lines() do
            if not c:write(line .. "\n") then break end
          end
          c:close()
        end)
      end
    end)
    local before = assert(treadle.dial("tcp", l:address()))
    f(l:address())
    for _, c in ipairs { before, (assert(treadle.dial("tcp", l:address()))) } do
      c:settimeout(10)
      assert(c:write "still there\n")
      assert.equal("still there", (c:read "l"))
      c:close()
    end
    l:close()
  end)
end

describe("what others do wrong", function()
  local addresses = {
    { "tcp", "127.0.0.1:99999", "bad port" },
    { "tcp", "127.0.0.1:-1", "bad port" },
    { "tcp", "127.0.0.1:", "bad port" },
    { "tcp", "127.0.0.1", "bad port" },
    { "tcp", "1.2.3:80", "bad address" },
    { "tcp", "[::1:80", "bad address" },
    { "tpc", "127.0.0.1:80", "unknown network" },
    { "unix", ("/x"):rep(100), "name too long" },
  }

  it("is an address that does not parse, a port out of range, a network that is none", beside_a_server(function()
    for _, case in ipairs(addresses) do
      local network, address = case[1], case[2]
      for name, call in pairs { dial = treadle.dial, listen = treadle.listen } do
        local ok, err, text = call(network, address)
        assert.is_nil(ok)
        assert.equal(case[3], err)
        assert.equal(("%s %s %s: %s"):format(name, network, address, err), text)
      end
    end
  end))

  it("is nobody there, a name that nobody has, a path that is not there", beside_a_server(function()
    local free = assert(treadle.listen("tcp", "127.0.0.1:0"))
    local nobody = free:address()
    free:close()
    local cases = {
      { "tcp", nobody, "connection refused" },
      { "tcp", "no-such-host.invalid:80", "no such host" },
      { "unix", "/nonexistent/socket", "no such file or directory" },
    }
    for _, case in ipairs(cases) do
      local ok, err, text = treadle.dial(case[1], case[2], { timeout = 5 })
      assert.is_nil(ok)
      -- without a network the system may not be able to say that there is no such host
      if case[2]:find "invalid" then case[3] = err end
      assert.equal(case[3], err)
      assert.equal(("dial %s %s: %s"):format(case[1], case[2], err), text)
    end
  end))

  it("is a datagram that is too long, to send and to receive", beside_a_server(function()
    local a, b = assert(treadle.listen_udp("127.0.0.1:0")), assert(treadle.listen_udp("127.0.0.1:0"))
    local ok, err, text = a:sendto(("x"):rep(70000), b:address())
    assert.is_nil(ok)
    assert.equal("message too long", err)
    assert.equal("sendto " .. b:address() .. ": message too long", text)
    assert.equal("sendto 127.0.0.1:99999: bad port", (select(3, a:sendto("x", "127.0.0.1:99999"))))
    assert.equal(100, a:sendto(("y"):rep(100), b:address()))
    assert.is_nil((b:recvfrom(10)))
    assert.equal(3, a:sendto("end", b:address()))
    assert.equal("end", (b:recvfrom(10)))
    a:close()
    b:close()
  end))

  it("is a stream that ends within a frame, and a line beyond the limit", beside_a_server(function(address)
    local l = assert(treadle.listen("tcp", "127.0.0.1:0"))
    local c = assert(treadle.dial("tcp", l:address()))
    local s = assert(l:accept())
    assert(c:write "half a frame")
    c:close()
    local got, err, part = s:read(100)
    assert.is_nil(got)
    assert.equal("closed", err)
    assert.equal("half a frame", part)
    s:close()
    l:close()
    c = assert(treadle.dial("tcp", address))
    assert(c:write(("z"):rep(1000) .. "\n"))
    got, err = c:read("l", 100)
    assert.is_nil(got)
    assert.equal("too long", err)
    c:close()
  end))

  it("is a descriptor that cannot be polled, is none, or was closed behind our back", beside_a_server(function()
    local fd = ffi.C.open("/etc/passwd", 0)
    local ok, err = treadle.fd(fd)
    ffi.C.close(fd)
    assert.is_nil(ok)
    assert.equal("cannot be polled", err)
    assert.equal("bad descriptor", (select(2, treadle.fd(12345))))
    local l = assert(treadle.listen_udp("127.0.0.1:0"))
    -- A number so high that no connection beside gets it when it is free: or f would wait for that one's bytes.
    local f = assert(treadle.fd(ffi.C.fcntl(l:fd(), F_DUPFD, ffi.cast("int", 500))))
    ffi.C.close(f:number())
    ok, err = f:read(1)
    assert.is_nil(ok)
    assert.equal("bad descriptor", err)
    f:close()
    l:close()
  end))

  it("is a peer that never reads: the write ends at its deadline, and tells how much went out", beside_a_server(function()
    local l = assert(treadle.listen("tcp", "127.0.0.1:0"))
    local c = assert(treadle.dial("tcp", l:address()))
    c:settimeout(0.05)
    local ok, err, sent
    local text = ("w"):rep(4 * 1024 * 1024)
    repeat ok, err, sent = c:write(text) until not ok
    assert.equal("timeout", err)
    assert.is_true(sent >= 0 and sent < #text)
    c:close()
    l:close()
  end))
end)
