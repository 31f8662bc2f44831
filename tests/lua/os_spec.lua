-- Names, processes and signals.
local ffi = require "ffi"
local treadle = require "treadle"
local helper = require "helper"
local inside, raises = helper.inside, helper.raises

ffi.cdef "int kill(int pid, int sig); int getpid(void);"

describe("a name", function()
  it("is looked up, and so is a number", inside(function()
    assert.same({ "10.1.2.3" }, treadle.lookup "10.1.2.3")
    assert.same({ "[::1]:80" }, treadle.lookup("::1", { port = 80 }))
    assert.same({ "127.0.0.1:1" }, treadle.lookup("localhost", { network = "tcp4", port = 1 }))
    local _, err, text = treadle.lookup "127.1"
    assert.equal("bad address", err)
    assert.equal("lookup 127.1: bad address", text)
    assert.equal("bad address", select(2, treadle.lookup "a\0b"))
    assert.equal("bad port", select(2, treadle.lookup("localhost", { port = 70000 })))
    assert.equal("unknown network", select(2, treadle.lookup("localhost", { network = "carrier" })))
    assert.equal("timeout", select(2, treadle.lookup("some.name", { timeout = 0 })))
    assert.equal("bad address", select(2, treadle.lookup_name "no number"))
    raises(function() treadle.lookup(7) end, "the host must be a string")
  end))
end)

--- A name beside localhost that this machine has for its loopback.
local function own_name()
  for line in io.lines "/etc/hosts" do
    local address, names = line:match "^%s*(127%.[%d.]+)%s+([^#]*)"
    for name in (names or ""):gmatch "%S+" do
      if name ~= "localhost" and name:find "^[%w-]+$" then return name, address end
    end
  end
end

describe("listening", function()
  local name, number = own_name()
  local it = name and it or function(what) pending(what .. " (this machine has no name but localhost)") end -- luacheck: ignore 431

  it("takes names, and so do datagrams", inside(function()
    local listener = assert(treadle.listen("tcp", name .. ":0"))
    assert.equal(number .. ":" .. listener:port(), listener:address())
    local conn = assert(treadle.dial("tcp", ("%s:%d"):format(name, listener:port())))
    conn:close()
    local receiver = assert(treadle.listen_udp(name .. ":0"))
    local to = ("%s:%d"):format(name, receiver:port())
    local sender = assert(treadle.dial_udp(to))
    sender:send "dialled"
    assert.equal("dialled", (receiver:recv()))
    local other = assert(treadle.listen_udp "127.0.0.1:0")
    assert.equal(2, other:sendto("to", to))
    assert.equal("to", (receiver:recv()))
    for _, one in ipairs { listener, receiver, sender, other } do one:close() end
  end))

  it("refuses names in the wrong place", inside(function()
    for _, bad in ipairs { "a b:1", "a..b:1", "[name]:1", "::1:80", "a\0b:1" } do
      assert.equal("bad address", (select(2, treadle.listen("tcp", bad))), bad)
      assert.equal("bad address", (select(2, treadle.dial_udp(bad))), bad)
    end
    for _, bad in ipairs { "name", "name:99999", "name:http" } do
      assert.equal("bad port", (select(2, treadle.listen("tcp", bad))), bad)
    end
    local task = treadle.go(function() return treadle.listen("tcp", "a.name.to.look.up:1") end)
    task:cancel()
    assert.same({ nil, "cancelled", "listen tcp a.name.to.look.up:1: cancelled" }, { task:join() })
  end))
end)

describe("a process", function()
  it("returns what it returned, or the signal that ended it", inside(function()
    local p = assert(treadle.command { "sh", "-c", "exit 7" })
    assert.is_true(p:pid() > 1)
    assert.same({ 7 }, { p:wait() })
    assert.same({ nil, "no such process" }, { p:kill() })
    assert.is_true(p:close())
    assert.same({ nil, "closed" }, { p:wait() })
    p = assert(treadle.command { "sleep", "1000" })
    assert.same({ nil, "timeout" }, { p:wait(0.01) })
    assert.is_true(p:kill "KILL")
    assert.same({ 128 + 9, 9 }, { p:wait() })
    p:close()
  end))

  it("talks through pipes", inside(function()
    local p = assert(treadle.command({ "sh", "-c", "read x; echo \"<$x> $ONE\"; pwd; echo oops >&2" },
      { stdin = "pipe", stdout = "pipe", stderr = "pipe", cwd = "/", env = { ONE = "1", PATH = "/usr/bin:/bin" } }))
    p.stdin:write "hello\n"
    assert.equal("<hello> 1", p.stdout:read "l")
    assert.equal("/", p.stdout:read "l")
    assert.equal("closed", select(2, p.stdout:read "l"))
    assert.equal("oops", p.stderr:read "l")
    assert.equal(0, p:wait())
    p:close()
    p = assert(treadle.command({ "sh", "-c", "echo a; echo b >&2" }, { stdout = "pipe", stderr = "out", stdin = "null" }))
    assert.equal("a", p.stdout:read "l")
    assert.equal("b", p.stdout:read "l")
    p:close()
  end))

  it("that is not there is told, and bad options are errors", inside(function()
    local p, err, text = treadle.command { "no-such-program" }
    assert.is_nil(p)
    assert.equal("no such file or directory", err)
    assert.equal("start no-such-program: no such file or directory", text)
    assert.equal("no such file or directory", select(2, treadle.command({ "true" }, { cwd = "/no/such" })))
    raises(function() treadle.command "true" end, "expects a list of strings")
    raises(function() treadle.command({ "true" }, { stdout = "out" }) end, "only stderr")
    raises(function() treadle.command({ "true" }, { stdin = {} }) end, "stdin is")
    raises(function() treadle.command { "true", 7 } end, "arguments must be strings")
  end))

  it("is killed with its object, and its group with it", inside(function()
    local p = assert(treadle.command({ "sh", "-c", "sleep 1000 & echo up; wait" },
      { stdout = "pipe", group = true, kill = true }))
    assert.equal("up", p.stdout:read "l")
    local out = p.stdout
    p.stdout = nil
    p:close()
    assert.equal("closed", select(2, out:read "l")) -- the sleeper is gone, too
    out:close()
  end))
end)

describe("signals", function()
  it("come to whom they were asked for, and go when he is closed", inside(function()
    local a, b = treadle.signals("USR1", "SIGUSR2"), treadle.signals(10)
    ffi.C.kill(ffi.C.getpid(), 10)
    assert.equal(10, a:recv(10))
    assert.equal(10, b:recv(10))
    ffi.C.kill(ffi.C.getpid(), 12)
    assert.equal(12, a:recv(10))
    assert.same({ nil, "timeout" }, { b:recv(0.01) })
    treadle.go(function() ffi.C.kill(ffi.C.getpid(), 10) end)
    for number in b:iter() do
      assert.equal(10, number)
      b:close()
    end
    assert.same({ nil, "closed" }, { b:close() })
    assert.same({ nil, "closed" }, { b:recv() })
    assert.is_true(treadle.ignore_signal "USR1")
    ffi.C.kill(ffi.C.getpid(), 10)
    assert.is_true(treadle.reset_signal "USR1")
    a:close()
    raises(function() treadle.signals "KILL" end, "cannot be caught")
    raises(function() treadle.signals "NOSUCH" end, "no such signal")
    raises(function() treadle.signals() end, "expects the names")
  end))
end)

describe("a watch", function()
  it("tells what came, changed and went", inside(function()
    local fs = treadle.fs
    local dir = assert(fs.mkdtemp "/tmp/treadle-lua-XXXXXX")
    local watch = assert(treadle.watch(dir))
    assert.same({ nil, "timeout" }, { watch:next(0.005) })
    treadle.go(function()
      assert(fs.write(dir .. "/entry", "x"))
      assert(fs.remove(dir .. "/entry"))
    end)
    local seen = {}
    for kind, name in watch:iter() do
      assert.equal("entry", name)
      seen[#seen + 1] = kind
      if kind == "rename" and #seen > 1 then break end
    end
    assert.equal("rename", seen[1])
    while watch:next(0.05) do end -- what is left
    local waiter = treadle.go(function() return select(2, watch:next()) end)
    treadle.yield()
    assert.is_true(watch:close())
    assert.equal("closed", waiter:join())
    assert.same({ nil, "closed" }, { watch:next() })
    assert.same({ nil, "closed" }, { watch:close() })
    assert(fs.rmdir(dir))
    local none, err, text = treadle.watch "/no/such/place"
    assert.is_nil(none)
    assert.equal("no such file or directory", err)
    assert.equal("watch /no/such/place: no such file or directory", text)
  end))
end)

describe("a terminal", function()
  it("is told from what is none", inside(function()
    local file = assert(treadle.open "/dev/null")
    assert.is_false(treadle.tty.is(file:fd()))
    assert.same({ nil, "not a terminal" }, { treadle.tty.size(file:fd()) })
    assert.same({ nil, "not a terminal" }, { treadle.tty.raw(file:fd(), true) })
    file:close()
  end))
end)
