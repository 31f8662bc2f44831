-- Shared channels: what crosses them, and as what.
local ffi = require "ffi"
local treadle = require "treadle"
local helper = require "helper"
local inside, raises = helper.inside, helper.raises
local C = require "treadle.library".C

describe("a shared channel", function()
  it("carries nil, booleans, numbers and strings", inside(function()
    local ch = treadle.shared_chan(1)
    for _, value in ipairs {
      true, false, 0, 1, -1, 0.5, -1e300, 2 ^ 31, 2 ^ 53, -2 ^ 53, 2 ^ 60, math.huge, -math.huge, "", "text", "a\0b", ("x"):rep(100000),
    } do
      assert.is_true(ch:send(value))
      assert.same({ value, true }, { ch:recv() })
    end
    ch:send(nil)
    assert.same({ nil, true }, { ch:recv() })
    ch:send(0 / 0)
    local nan = ch:recv()
    assert.is_true(nan ~= nan)
    ch:send(-0.0)
    assert.equal(-math.huge, 1 / ch:recv())
  end))

  it("sends whole numbers as integers and others as doubles", inside(function()
    local ch = treadle.shared_chan(1)
    local val = ffi.new "tdl_val[1]"
    for _, case in ipairs { { 7, 2 }, { -2 ^ 53, 2 }, { 0.5, 3 }, { 2 ^ 54, 3 }, { math.huge, 3 }, { "x", 5 }, { true, 1 } } do
      ch:send(case[1])
      assert.equal(0, C.tdl_chan_try_recv(ch.ptr, val))
      assert.equal(case[2], val[0].type, tostring(case[1]))
      C.tdl_val_clear(val)
    end
  end))

  it("carries 64-bit integers and pointers", inside(function()
    local ch = treadle.shared_chan(1)
    for _, value in ipairs { 0x7fffffffffffffffLL, -0x7fffffffffffffffLL - 1, 2LL ^ 55 + 1 } do
      ch:send(value)
      assert.is_true(value == ch:recv())
    end
    ch:send(5LL)
    assert.equal(5, (ch:recv()))
    local buffer = ffi.new "int[1]"
    ch:send(ffi.cast("int *", buffer))
    local pointer = ch:recv()
    assert.is_true(ffi.cast("int *", pointer) == buffer)
  end))

  it("carries tables as MessagePack", inside(function()
    local ch = treadle.shared_chan(1)
    for _, value in ipairs { {}, { 1, 2, 3 }, { a = { b = { "c", 0.5, true } } } } do
      ch:send(value)
      local copy = ch:recv()
      assert.same(value, copy)
      assert.not_equal(value, copy)
    end
    local val = ffi.new "tdl_val[1]"
    ch:send { 1 }
    C.tdl_chan_try_recv(ch.ptr, val)
    assert.equal(2, val[0].flags)
    C.tdl_val_clear(val)
  end))

  it("takes text, as Python sends it, as a string", inside(function()
    local ch = treadle.shared_chan(1)
    local val = ffi.new "tdl_val[1]"
    C.tdl_val_set_bytes(val, "h\195\169", 3)
    val[0].flags = 1
    C.tdl_chan_try_send(ch.ptr, val)
    C.tdl_val_clear(val)
    assert.equal("h\195\169", (ch:recv()))
  end))

  it("carries shared channels", inside(function()
    local outer, inner = treadle.shared_chan(1), treadle.shared_chan(1)
    inner:send "through"
    outer:send(inner)
    local got = outer:recv()
    assert.equal(inner, got)
    assert.equal("through", (got:recv()))
    outer:send(outer)
    assert.equal(outer, (outer:recv()))
  end))

  it("refuses what cannot cross, at the caller's line, and sends nothing then", inside(function()
    local ch = treadle.shared_chan(2)
    raises(function() ch:send(print) end, "shared_spec.lua:%d+: treadle: a function cannot cross")
    raises(function() ch:send(coroutine.create(print)) end, "a thread cannot cross")
    raises(function() ch:send { print } end, "shared_spec.lua:%d+: treadle: this table cannot cross")
    raises(function() ch:send(treadle.chan()) end, "shared_spec.lua:%d+: treadle: a channel of treadle.chan cannot")
    raises(function() treadle.select { ch:send_op "first", ch:send_op(print) } end, "a function cannot cross")
    raises(function() treadle.try_select { ch:send_op(print) } end, "a function cannot cross")
    assert.equal(0, ch:len())
  end))

  it("says so when MessagePack is missing", function()
    local out = helper.script([[
      package.path = package.path:gsub("/usr/share/lua/5.1/%?.lua", "")
      local treadle = require "treadle"
      treadle.run(function()
        local ch = treadle.shared_chan(1)
        ch:send "no table, no need"
        print(pcall(function() ch:send {} end))
      end)]])
    assert.matches("false\t.-%d+: treadle: a table needs the module MessagePack", out)
  end)

  it("works in select, with local ones beside it", inside(function()
    local shared, own = treadle.shared_chan(), treadle.chan()
    treadle.go(function() treadle.sleep(0.002) shared:send { "late" } end)
    assert.same({ 2, { "late" }, true }, { treadle.select { own:recv_op(), shared:recv_op(), treadle.after_op(5) } })
    treadle.go(function() treadle.sleep(0.002) own:recv() end)
    assert.same({ 2, nil, true }, { treadle.select { shared:send_op "not me", own:send_op "me" } })
    local got
    treadle.go(function() got = (shared:recv()) end)
    treadle.yield()
    assert.same({ 1, nil, true }, { treadle.try_select { shared:send_op "bytes", own:send_op(1) } })
    treadle.yield()
    assert.equal("bytes", got)
    shared:close()
    assert.same({ 1, nil, false }, { treadle.select { shared:recv_op() } })
    assert.same({ nil, false }, { shared:recv() })
    assert.same({ nil, "closed" }, { shared:send(1) })
    assert.same({ nil, "closed" }, { shared:close() })
  end))

  it("times out, blocks and closes as a local one does", inside(function()
    local ch = treadle.shared_chan(1)
    assert.same({ nil, nil, "timeout" }, { ch:recv(0.005) })
    ch:send "kept"
    assert.same({ nil, "timeout" }, { ch:send("late", 0.005) })
    assert.equal(1, ch:len())
    assert.equal(1, ch:cap())
    local waiting = treadle.go(function() return select(2, ch:send "more") end)
    treadle.yield()
    ch:close()
    assert.equal("closed", waiting:join())
    local got = {}
    for value in ch:iter() do got[#got + 1] = value end
    assert.same({ "kept" }, got)
    assert.is_true(ch:closed())
  end))

  it("can be wrapped again from its address", inside(function()
    local ch = treadle.shared_chan(1)
    local address = tonumber(ffi.cast("uintptr_t", ch:pointer()))
    for _, again in ipairs {
      treadle.wrap_chan(ch:pointer()), treadle.wrap_chan(address), treadle.wrap_chan(ch.ptr), treadle.shared_chan(0, ch:pointer()),
    } do
      again:send "x"
      assert.equal("x", (ch:recv()))
      assert.equal(ch, again)
    end
    local kept = treadle.wrap_chan(address)
    ch = nil
    helper.collect()
    assert.is_true(kept:send(ch)) -- its own reference
    for _, bad in ipairs { 0, "x", {}, ffi.cast("void *", nil) } do
      raises(function() treadle.wrap_chan(bad) end, "shared_spec.lua:%d+: treadle: wrap_chan expects")
    end
    raises(function() treadle.wrap_chan() end, "wrap_chan expects a pointer, got nil")
  end))

  it("is freed when the last holder has gone, values included", inside(function()
    helper.collect()
    local before = treadle.metric "channels"
    for _ = 1, 100 do
      local ch = treadle.shared_chan(2)
      ch:send(treadle.shared_chan(1))
      ch:send(("x"):rep(1000))
    end
    helper.collect()
    helper.collect()
    assert.is_true(treadle.metric "channels" <= before)
  end))

  it("carries 20,000 values between two lua_States of one process", function()
    -- The other state runs in this thread, inside a goroutine of ours: its run is
    -- a host of its own, and only values that are buffered can pass meanwhile.
    pcall(ffi.cdef, [[
      typedef struct lua_State lua_State;
      lua_State *luaL_newstate(void);
      void luaL_openlibs(lua_State *L);
      int luaL_loadstring(lua_State *L, const char *text);
      int lua_pcall(lua_State *L, int arguments, int results, int handler);
      const char *lua_tolstring(lua_State *L, int index, size_t *n);
      void lua_close(lua_State *L);
    ]])
    local there, back = treadle.shared_chan(100), treadle.shared_chan(100)
    local L = ffi.C.luaL_newstate()
    ffi.C.luaL_openlibs(L)
    local function other(program)
      local failed = ffi.C.luaL_loadstring(L, program) ~= 0 or ffi.C.lua_pcall(L, 0, 0, 0) ~= 0
      assert(not failed, failed and ffi.string(ffi.C.lua_tolstring(L, -1, nil)))
    end
    local function address(ch) return ("%.0f"):format(tonumber(ffi.cast("uintptr_t", ch:pointer()))) end
    other(("package.path = %q treadle = require 'treadle'"):format(package.path)
      .. " there = treadle.wrap_chan(" .. address(there) .. ") back = treadle.wrap_chan(" .. address(back) .. ")")
    local sum = 0
    for round = 1, 200 do
      treadle.run(function() for i = 1, 100 do there:send { round, i } end end)
      other "treadle.run(function() for _ = 1, 100 do local t = there:recv() back:send(t[1] * 1000 + t[2]) end end)"
      treadle.run(function() for _ = 1, 100 do sum = sum + back:recv() end end)
    end
    ffi.C.lua_close(L)
    assert.equal(200 * 201 / 2 * 1000 * 100 + 200 * 5050, sum)
  end)
end)
