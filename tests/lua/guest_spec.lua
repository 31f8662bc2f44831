-- Guest mode: goroutines in a loop that is another's, luv's and Neovim's among them.
local helper = require "helper"
local treadle = require "treadle"
local guest = require "treadle.guest"

local function has(command)
  return select(2, helper.shell(command .. " >/dev/null 2>&1 </dev/null")) == 0
end
local LUV = has [[luajit -e 'require "luv"']]
local NVIM = has "timeout 10 nvim --version"
local example = helper.root .. "/examples/lua/"

describe("a guest", function()
  it("runs goroutines by steps, and says when the next is due", function()
    local g = guest.attach()
    local ch, order = treadle.chan(), {}
    treadle.go(function() for i = 1, 3 do ch:send(i) end end)
    treadle.go(function() for i = 1, 3 do order[i] = ch:recv() end end)
    assert.is_nil(g:step()) -- nobody waits for a time
    assert.same({ 1, 2, 3 }, order)
    assert.equal(0, g:live())
    local woke
    treadle.go(function() treadle.sleep(0.02) woke = true end)
    local due = g:step()
    assert.is_true(due > 0 and due <= 0.02)
    assert.equal(1, g:live())
    local from = treadle.now()
    while not woke do
      assert.is_true(treadle.now() - from < 10)
      g:step()
    end
    assert.is_true(treadle.now() - from >= 0.015)
    g:close()
    g:close()
  end)

  it("has a descriptor that is readable when there is something to do", function()
    local ffi = require "ffi"
    pcall(ffi.cdef, "struct guest_pollfd { int fd; short events, revents; };")
    pcall(ffi.cdef, "int poll(struct guest_pollfd *, unsigned long, int);")
    local g = guest.attach()
    local p = ffi.new("struct guest_pollfd[1]", { { fd = g:fd(), events = 1 } })
    local a, b = treadle.pipe(10)
    local got
    treadle.go(function() got = b:read(5) end)
    g:step()
    assert.equal(0, ffi.C.poll(p, 1, 0))
    g:wake()
    assert.equal(1, ffi.C.poll(p, 1, 5000))
    g:step()
    local l = assert(treadle.listen("tcp", "127.0.0.1:0"))
    treadle.go(function() local c = l:accept() c:close() a:write "there" end)
    treadle.go(function() treadle.dial("tcp", l:address()):close() end)
    for _ = 1, 1000 do
      g:step()
      if got then break end
      ffi.C.poll(p, 1, 10)
    end
    assert.equal("there", got)
    l:close()
    a:close()
    b:close()
    g:close()
  end)

  it("cancels and unwinds what is left when it is closed", function()
    local g = guest.attach()
    local ended, told
    treadle.go(function()
      local ok, err = treadle.sleep(100)
      ended, told = true, err
      return ok
    end)
    g:step()
    g:close()
    assert.is_true(ended)
    assert.equal("cancelled", told)
  end)

  it("is told of errors, and goes on", function()
    local seen
    local g = guest.attach { on_error = function(_, err) seen = err end }
    treadle.go(function() error("planted", 0) end)
    local after
    treadle.go(function() after = true end)
    g:step()
    assert.equal("planted", seen)
    assert.is_true(after)
    g:close()
  end)

  it("is one at a time, and refuses bad arguments", function()
    local g = guest.attach()
    helper.raises(function() guest.attach() end, "attach while a run or another guest is there")
    helper.raises(function() treadle.run(function() end) end, "run inside run")
    local inside
    treadle.go(function() inside = select(2, pcall(g.step, g)) end)
    g:step()
    assert.matches("step inside a goroutine", inside)
    g:close()
    helper.raises(function() g:step() end, "the guest is closed")
    helper.raises(function() guest.attach(7) end, "attach expects a table")
    helper.raises(function() guest.attach { on_error = 7 } end, "on_error must be a function")
    helper.raises(function() require("treadle.luv").attach {} end, "attach expects luv")
    treadle.run(function() assert.is_false((pcall(guest.attach))) end)
  end)

  it("shares luv's loop with luv's own callbacks", function()
    if not LUV then return pending "there is no luv" end
    local out, status = helper.shell("timeout 30 luajit " .. example .. "guest_luv.lua")
    local lines = {}
    for line in out:gmatch "[^\n]+" do lines[#lines + 1] = line end
    if #lines == 5 then
      local answers = { unpack(lines, 1, 3) } -- in the order in which the server gave them
      table.sort(answers)
      lines[1], lines[2], lines[3] = unpack(answers)
    end
    assert.same({ "GOROUTINE 1", "GOROUTINE 2", "GOROUTINE 3", "the loop ticked meanwhile", "over" }, lines)
    assert.equal(0, status)
  end)

  it("talks to a server from Neovim, and the editor goes on", function()
    if not NVIM then return pending "there is no Neovim" end
    local script = os.tmpname()
    local file = assert(io.open(script, "w"))
    -- a server of luv's that answers late; a timer of the editor's ticks meanwhile
    file:write(([[
      dofile(%q)
      local uv = vim.loop
      local server, ticks, ticker = uv.new_tcp(), 0, uv.new_timer()
      server:bind("127.0.0.1", 0)
      server:listen(8, function()
        local client = uv.new_tcp()
        server:accept(client)
        client:read_start(function(_, chunk)
          if not chunk then return client:close() end
          local late = uv.new_timer()
          late:start(30, 0, function() client:write(chunk:upper()) late:close() end)
        end)
      end)
      ticker:start(5, 5, function() ticks = ticks + 1 end)
      vim.cmd("Ask 127.0.0.1:" .. server:getsockname().port .. " first second third")
      local function text() return table.concat(vim.api.nvim_buf_get_lines(0, 0, -1, true), " ") end
      vim.wait(10000, function() return text():find "THIRD" end, 10)
      io.stdout:write(text(), ticks >= 2 and " ticked" or " stood still", "\n")
      vim.cmd "Ask 127.0.0.1:1 nobody"
      local told
      vim.notify = function(message) told = message end
      vim.wait(10000, function() return told end, 10)
      io.stdout:write(tostring(told), "\n")
      vim.cmd "qa!"
    ]]):format(example .. "nvim_client.lua"))
    file:close()
    local out, status = helper.shell(("timeout -k 5 40 nvim --headless -u NONE -i NONE -n -c 'luafile %s' </dev/null")
      :format(script))
    os.remove(script)
    assert.matches("FIRST SECOND THIRD ticked", out, 1, true)
    assert.matches("no connection to 127.0.0.1:1: connection refused", out, 1, true)
    assert.equal(0, status)
  end)
end)
