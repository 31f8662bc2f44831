-- The examples, driven by real clients.  (tests/demo drives the servers of all
-- three languages in more detail and under load.)
local treadle = require "treadle"
local helper = require "helper"
local shell = helper.shell

local dir = helper.root .. "/examples/lua/"

--- Runs f(port) while an example server runs, ends that by SIGTERM and checks
--- that it ended well and in silence.
local function with_server(name, arguments, f)
  local base = os.tmpname()
  local function slurp(suffix)
    local file = io.open(base .. suffix)
    local text = file and file:read "*a" or ""
    if file then file:close() end
    return text
  end
  local function wait_for(suffix, pattern)
    local limit = treadle.now() + 10
    repeat
      local found = slurp(suffix):match(pattern)
      if found then return found end
      shell "sleep 0.02"
    until treadle.now() > limit
  end
  local server = ("sh -c 'echo $$ > %s.pid; exec luajit %s%s.lua 127.0.0.1:0 %s' > %s.out 2> %s.err"):format(
    base, dir, name, arguments, base, base)
  shell(("{ %s; echo $? > %s.status; } > /dev/null 2>&1 &"):format(server, base))
  local port = assert(wait_for(".out", "^listening on 127%.0%.0%.1:(%d+)\n$"), slurp ".err")
  local ok, err = pcall(f, port)
  shell("kill -TERM " .. slurp ".pid")
  local status = wait_for(".status", "%d+")
  local complaints = slurp ".err"
  for _, suffix in ipairs { "", ".out", ".err", ".pid", ".status" } do os.remove(base .. suffix) end
  assert(ok, err)
  assert.equal("", complaints)
  assert.equal("0", status)
end

describe("the example", function()
  it("workers prints the sum", function()
    assert.same({ "338350\n", 0 }, { shell("luajit " .. dir .. "workers.lua") })
  end)

  it("echo echoes", function()
    with_server("echo", "", function(port)
      treadle.run(function()
        local conn = assert(treadle.dial("tcp", "127.0.0.1:" .. port))
        for i = 1, 100 do
          conn:write("line ", i, "\n")
          assert.equal("line " .. i, conn:read "l")
        end
        local big = ("x"):rep(2 ^ 20)
        treadle.go(conn.write, conn, big)
        assert.equal(big, conn:read(#big))
        conn:shutdown "write"
        assert.equal("", conn:read "a")
      end)
    end)
  end)

  it("http_server answers curl", function()
    with_server("http_server", "", function(port)
      local url = "http://127.0.0.1:" .. port
      assert.same({ "Hello, World!\n", 0 }, { shell("curl -s --max-time 5 " .. url) })
      local head = shell("curl -s -i --max-time 5 " .. url)
      assert.equal("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 14\r\n\r\nHello, World!\n", head)
      local function status(options)
        return (shell("curl -s -o /dev/null -w '%{http_code} %{num_connects}' --max-time 5 " .. options))
      end
      assert.equal("200 1200 0200 0", status(("%s -o /dev/null %s -o /dev/null %s"):format(url, url, url)))
      assert.equal("404 1", status(url .. "/nothing"))
      assert.equal("405 1", status("-X DELETE " .. url))
      assert.equal("405 1", status("-d data " .. url))
      assert.equal("200 1", status("-H 'Connection: close' " .. url))
      assert.equal("200 1", status("-0 " .. url))
      assert.equal("431 1", status("-H \"X: $(head -c 9000 /dev/zero | tr '\\0' x)\" " .. url))
    end)
  end)

  it("http_server pipelines, and refuses nonsense", function()
    with_server("http_server", "", function(port)
      treadle.run(function()
        local function ask(text)
          local conn = assert(treadle.dial("tcp", "127.0.0.1:" .. port))
          conn:settimeout(5)
          conn:write(text)
          conn:shutdown "write"
          local answer = conn:read "a"
          conn:close()
          return answer
        end
        local get = "GET / HTTP/1.1\r\nHost: h\r\n\r\n"
        assert.equal(20, select(2, ask(get:rep(20)):gsub("Hello, World!\n", "")))
        for text, code in pairs {
          ["nonsense\r\n\r\n"] = 400,
          ["GET  / HTTP/1.1\r\n\r\n"] = 400,
          ["GET / HTTP/2.0\r\n\r\n"] = 505,
          ["GET / HTTP/1.1\r\nno colon\r\n\r\n"] = 400,
          ["GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"] = 400,
          ["GET / HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n"] = 413,
          ["GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"] = 501,
          ["GET /" .. ("a"):rep(9000) .. " HTTP/1.1\r\n\r\n"] = 431,
          ["GET / HTTP/1.1\r\n" .. ("X: y\r\n"):rep(200) .. "\r\n"] = 431,
        } do
          assert.equal("HTTP/1.1 " .. code, ask(text .. get):sub(1, 12), text:sub(1, 40))
        end
        assert.matches("Hello", ask("GET / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc" .. get))
        assert.matches("^HTTP/1.1 200", ask(get))
      end)
    end)
  end)

  it("http_server says what is wrong with an address", function()
    local out, status = shell("luajit " .. dir .. "http_server.lua nonsense")
    assert.equal("listen on nonsense: bad port\n", out)
    assert.equal(1, status)
  end)

  it("chat passes lines on, and forgets who leaves", function()
    with_server("chat", "", function(port)
      treadle.run(function()
        local function enter(nick, ...)
          local conn = assert(treadle.dial("tcp", "127.0.0.1:" .. port))
          conn:settimeout(5)
          assert.equal("name?", conn:read "l")
          conn:write(nick, "\n")
          for _, other in ipairs { ... } do assert.equal("* " .. nick .. " joined", other:read "l") end
          return conn
        end
        local ann = enter "ann"
        treadle.sleep(0.05)
        local bob = enter("bob", ann)
        local cyd = enter("cyd", ann, bob)
        ann:write "hello\n"
        assert.equal("ann: hello", bob:read "l")
        assert.equal("ann: hello", cyd:read "l")
        bob:write "/quit\n"
        assert.equal("", bob:read "a")
        assert.equal("* bob left", ann:read "l")
        cyd:close()
        assert.equal("* cyd left", ann:read "l")
      end)
    end)
  end)

  it("chat sends the idle away", function()
    with_server("chat", "0.2", function(port)
      treadle.run(function()
        local conn = assert(treadle.dial("tcp", "127.0.0.1:" .. port))
        conn:settimeout(5)
        conn:write "ann\n"
        assert.equal("name?\n* idle, bye\n", conn:read "a")
      end)
    end)
  end)
end)
