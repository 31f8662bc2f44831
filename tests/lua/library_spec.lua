-- Finding and checking libtreadle; the generated declarations.
local helper = require "helper"

local program = [[
  local ok, err = pcall(require, "treadle")
  print(ok, ok and err._VERSION or err)
]]

describe("the generated declarations", function()
  it("are fresh", function()
    local out, status = helper.shell("python3 " .. helper.root .. "/ffi/gen_lua_cdef.py --check")
    assert.equal("", out)
    assert.equal(0, status)
  end)

  it("have every constant of the headers", function()
    local const = require "treadle.library".const
    local include = helper.root .. "/core/include/"
    local n = 0
    for part in io.lines(include .. "treadle.h") do
      local file = part:match '^#include "(treadle/%w+%.h)"'
      local lines = file and file ~= "treadle/io.h" and io.lines(include .. file) or function() end
      for line in lines do
        local name = line:match "^    (TDL_[%u_%d]+) *=" or line:match "^#define (TDL_[%u_%d]+) +[%(%w%-]"
        if name then
          assert.is_not_nil(const[name], name)
          n = n + 1
        end
      end
    end
    assert.is_true(n > 100)
  end)
end)

describe("loading", function()
  it("gives the version", function()
    assert.equal("0.1.0", require "treadle"._VERSION)
  end)

  it("twice in one state works", function()
    local out, status = helper.script [[
      local first = require "treadle"
      for name in pairs(package.loaded) do if name:find "^treadle" then package.loaded[name] = nil end end
      local second = require "treadle"
      assert(first ~= second)
      for _, treadle in ipairs { first, second, first } do
        treadle.run(function() local ch = treadle.chan(1) ch:send "ok" print((ch:recv())) end)
      end]]
    assert.equal("ok\nok\nok\n", out)
    assert.equal(0, status)
  end)

  it("says what is wrong when the library is missing", function()
    local out = helper.script(program, "TREADLE_LIB=/nonexistent/libtreadle.so")
    assert.matches("false\ttreadle: libtreadle was not found %(TREADLE_LIB may name it%):.-/nonexistent/libtreadle.so", out)
  end)

  it("refuses a library that is another", function()
    local out = helper.script(program, "TREADLE_LIB=libm.so.6")
    assert.matches("false\ttreadle: libm.so.6 is not a treadle library", out)
  end)

  local function fake(abi, size)
    local base = os.tmpname()
    local file = assert(io.open(base .. ".c", "w"))
    file:write(([[
      int tdl_abi_version(void) { return %d; }
      const char *tdl_version(void) { return "9.9.9"; }
      unsigned long tdl_abi_size(const char *type) { (void)type; return %d; }
    ]]):format(abi, size))
    file:close()
    local out, status = helper.shell(("cc -shared -fPIC -o %s.so %s.c"):format(base, base))
    assert(status == 0, out)
    local said = helper.script(program, "TREADLE_LIB=" .. base .. ".so")
    for _, suffix in ipairs { "", ".c", ".so" } do os.remove(base .. suffix) end
    return said
  end

  it("refuses another ABI", function()
    assert.matches("false\ttreadle: .-%.so speaks ABI 4711 %(version 9.9.9%), this binding needs ABI 1 %(version 0.1.0%)", fake(4711, 16))
  end)

  it("refuses structures of another size", function()
    assert.matches("false\ttreadle: .-%.so has a tdl_%w+ of 3 bytes, this binding one of", fake(1, 3))
  end)

  it("finds the library beside the Lua files, and on package.cpath", function()
    local place = os.tmpname()
    os.remove(place)
    local lib = os.getenv "TREADLE_LIB"
    helper.shell(("mkdir -p %s/lua %s/c/treadle && cp -r %s/bindings/lua/treadle %s/lua/"):format(place, place, helper.root, place))
    local function try(where)
      helper.shell(("cp -L %s %s"):format(lib, where))
      local out = helper.shell(([[cd / && env -u TREADLE_LIB LUA_PATH='%s/lua/?.lua;%s/lua/?/init.lua' LUA_CPATH='%s/c/?.so' \
        luajit -e 'require "treadle" for line in io.lines "/proc/self/maps" do print(line:match "%%S*/libtreadle%%S*" or "") end']]):format(
        place, place, place))
      os.remove(where)
      return out:match "%S+"
    end
    local beside, searched = place .. "/lua/treadle/libtreadle.so.0", place .. "/c/treadle/libtreadle.so"
    assert.equal(beside, try(beside))
    assert.equal(searched, try(searched))
    helper.shell("rm -r " .. place)
  end)

  it("joins a library that is in the process already", function()
    local lib = os.getenv "TREADLE_LIB"
    local copy = os.tmpname()
    helper.shell(("cp -L %s %s"):format(lib, copy))
    local out = helper.script(([[
      local ffi = require "ffi"
      local mine = ffi.load(%q)
      local treadle = require "treadle"
      treadle.run(function() treadle.yield() end)
      local seen = {}
      for line in io.lines "/proc/self/maps" do
        local file = line:match "/%%S+$"
        if file and (file == %q or file:find "libtreadle") then seen[file] = true end
      end
      for file in pairs(seen) do print(file) end
      return mine]]):format(copy, copy), "TREADLE_LIB=")
    os.remove(copy)
    assert.equal(copy .. "\n", out)
  end)

  it("has each of its modules in the rockspec, under its name", function()
    local listed = {}
    for line in io.lines(helper.root .. "/treadle-scm-1.rockspec") do
      local name, file = line:match '%["(treadle[%w_.]*)"%] = "bindings/lua/(.*)%.lua"'
      if name then listed[file] = name end
    end
    local out = helper.shell(("cd %s/bindings/lua && find treadle -name '*.lua'"):format(helper.root))
    local n = 0
    for file in out:gmatch "([^\n]+)%.lua" do
      n = n + 1
      assert.equal((file:gsub("/init$", ""):gsub("/", ".")), listed[file], file .. " is not in the rockspec")
    end
    assert.is_true(n > 40)
  end)
end)
