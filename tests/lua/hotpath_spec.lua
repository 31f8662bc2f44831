-- Reads without strings, and what lets more code wait: require, sort; being fair.
local helper = require "helper"
local treadle = require "treadle"
local ffi = require "ffi"
local inside, raises = helper.inside, helper.raises

describe("reads without strings", function()
  it("peek shows what is buffered and leaves it", inside(function()
    local near, far = helper.pair()
    far:write "hello, world"
    local p, n = near:peek(5)
    assert.equal("hello", ffi.string(p, 5))
    assert.is_true(n >= 5)
    p, n = near:peek(12)
    assert.equal("hello, world", ffi.string(p, n))
    assert.is_true(near:skip(7))
    assert.equal("world", near:read(5))
    local later = treadle.go(function() return near:peek() end)
    treadle.yield()
    far:write "x"
    assert.equal(120, (later:join())[0])
    near:settimeout(0.01)
    assert.same({ nil, "timeout" }, { near:peek(2) })
    assert.same({ nil, "timeout" }, { near:skip(2) })
    assert.equal("x", near:read(1)) -- nothing was lost
    far:write "yz"
    far:close()
    near:settimeout()
    assert.same({ nil, "closed" }, { near:peek(3) })
    assert.equal("yz", near:read "a")
    near:close()
    assert.same({ nil, "closed" }, { near:peek() })
    raises(function() near:peek(0) end, "whole number of bytes")
  end))

  local found, buffer = pcall(require, "string.buffer")
  local it = found and it or function(name) pending(name .. " (this LuaJIT has no string.buffer)") end -- luacheck: ignore 431

  it("read_into and write_from use a string.buffer", inside(function()
    local near, far = helper.pair()
    local b = buffer.new()
    far:write "0123456789"
    assert.equal(4, near:read_into(b, 4))
    assert.equal(6, near:read_into(b))
    assert.equal("0123456789", b:tostring())
    local big = ("0123456789"):rep(100000)
    b:reset()
    b:put(big)
    local writing = treadle.go(function() return near:write_from(b) end)
    local back = buffer.new()
    while #back < #big do assert(far:read_into(back)) end
    assert.equal(#big, writing:join())
    assert.equal(0, #b)
    assert.is_true(back:tostring() == big)
    far:close()
    assert.same({ nil, "closed" }, { near:read_into(b) })
    assert.equal(0, #b)
    raises(function() near:read_into {} end, "a string.buffer is expected")
  end))
end)

--- Runs f with modules made of texts.
local function with_modules(texts, f)
  for name, text in pairs(texts) do package.preload[name] = assert(loadstring(text)) end
  local ok, err = pcall(f)
  for name in pairs(texts) do package.preload[name], package.loaded[name] = nil, nil end
  if not ok then error(err, 0) end
end

describe("treadle.require", function()
  it("lets a module wait, and loads it once for all who want it", inside(function()
    _G.loads = 0
    with_modules({
      slow = "local t = require 'treadle' t.sleep(0.005) loads = loads + 1 return { name = ... }",
      outer = "return { inner = require('treadle').require 'slow' }",
    }, function()
      local tasks = {}
      for i = 1, 5 do tasks[i] = treadle.go(treadle.require, i % 2 == 0 and "outer" or "slow") end
      local slow = tasks[1]:join()
      assert.equal("slow", slow.name)
      assert.equal(slow, tasks[2]:join().inner)
      for i = 3, 5 do tasks[i]:join() end
      assert.equal(1, _G.loads)
      assert.equal(slow, treadle.require "slow")
      assert.equal(slow, require "slow")
    end)
    _G.loads = nil
  end))

  it("tells errors and circles, and can be tried again", inside(function()
    with_modules({
      bad = "require('treadle').yield() error 'in the module'",
      one = "require('treadle').sleep(0.001) return require('treadle').require 'two'",
      two = "require('treadle').sleep(0.001) return require('treadle').require 'one'",
      own = "return require('treadle').require 'own'",
    }, function()
      for _ = 1, 2 do raises(function() treadle.require "bad" end, "in the module") end
      raises(function() treadle.require "own" end, "loop while loading module 'own'")
      local a, b = treadle.go(treadle.require, "one"), treadle.go(treadle.require, "two")
      local _, first = a:join()
      local _, second = b:join()
      assert.matches("loop while loading", tostring(first) .. tostring(second))
      raises(function() treadle.require "no.such.module" end, "module 'no.such.module' not found:")
    end)
  end))

  it("can be the global one", inside(function()
    require "treadle.require".install()
    with_modules({ waits = "require 'treadle'.sleep(0.001) return 'waited'" }, function()
      assert.equal("waited", require "waits")
    end)
    require "treadle.require".restore()
    with_modules({ waits = "require 'treadle'.sleep(0.001)" }, function()
      raises(function() require "waits" end, "cannot wait inside require, which is a C function: treadle.require")
    end)
  end))
end)

describe("treadle.sort", function()
  it("sorts, keeps the order of equals, and lets the comparison wait", inside(function()
    math.randomseed(7)
    for n = 0, 70 do
      local list, plain = {}, {}
      for i = 1, n do
        list[i] = { key = math.random(10), place = i }
        plain[i] = math.random()
      end
      treadle.sort(list, function(a, b)
        if n < 20 then treadle.yield() end
        return a.key < b.key
      end)
      for i = 2, n do
        local a, b = list[i - 1], list[i]
        assert.is_true(a.key < b.key or a.key == b.key and a.place < b.place)
      end
      local copy = { unpack(plain) }
      treadle.sort(plain)
      table.sort(copy)
      assert.same(copy, plain)
    end
    local list = { 3, 1, 2 }
    raises(function() treadle.sort(list, function() error "no" end) end, "no")
    assert.same({ 3, 1, 2 }, list)
    raises(function() treadle.sort(5) end, "expects a table")
  end))
end)

describe("where Lua cannot wait", function()
  it("the C function is named", inside(function()
    local cases = {
      ["string.gsub"] = function() return (("x"):gsub("x", function() treadle.sleep(1) end)) end,
      dofile = function()
        local path = os.tmpname()
        local file = io.open(path, "w")
        file:write "require 'treadle'.sleep(1)"
        file:close()
        local ok, err = pcall(dofile, path)
        os.remove(path)
        if not ok then error(err, 0) end
      end,
    }
    for name, f in pairs(cases) do raises(f, "cannot wait inside " .. name:gsub("%.", "%%.") .. ", which is a C function") end
  end))
end)

describe("yield_if_due", function()
  it("lets others run when the time is over, and not before", inside(function()
    local others = 0
    treadle.go(function() while others < 1000 do others = others + 1 treadle.yield() end end)
    for _ = 1, 100 do treadle.yield_if_due(1000) end
    assert.equal(0, others)
    local begun = treadle.now()
    while others < 3 and treadle.now() - begun < 20 do treadle.yield_if_due(0.0001) end
    assert.equal(3, others)
    others = 1000
    local task = treadle.go(function() for _ = 1, 1e9 do if not treadle.yield_if_due(0) then return "told" end end end)
    treadle.yield()
    task:cancel()
    assert.equal("told", task:join())
  end))
end)

describe("a peer that always has data", function()
  it("does not keep timers and other goroutines waiting", inside(function()
    local listener = assert(treadle.listen("tcp", "127.0.0.1:0"))
    local flood = treadle.spawn(function(address)
      local conn = require "treadle".dial("tcp", address)
      local much = ("x"):rep(65536)
      while conn:write(much) do end -- luacheck: ignore 542
    end, listener:address())
    local conn = assert(listener:accept())
    local ways = {
      function() return conn:read_some(100) end,
      function() return conn:read(1) end,
      function() return conn:skip(1) end,
    }
    for i, way in ipairs(ways) do
      local ticks, limit = 0, treadle.now() + 15
      treadle.go(function() for _ = 1, 5 do treadle.sleep(0.0005) ticks = ticks + 1 end end)
      while ticks < 5 and treadle.now() < limit do assert(way()) end
      assert.equal(5, ticks, "way " .. i)
    end
    conn:close()
    flood:join()
  end))
end)

describe("tune", function()
  it("sets the compiler's limits, and only when it is called", function()
    local out = helper.script [[
      local treadle = require "treadle"
      local set = treadle.tune { maxside = 200 }
      print(set.maxtrace, set.maxside)
      print(pcall(treadle.tune, 1))]]
    assert.matches("^8000\t200\nfalse\t.*tune expects a table", out)
  end)
end)
