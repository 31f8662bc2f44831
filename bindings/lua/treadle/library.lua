-- SPDX-License-Identifier: MIT
-- Finds libtreadle, loads it once and makes sure that it is the one this
-- binding was generated for.
--
-- Invariants: the namespace returned here is the only one in use and is never
-- unloaded (threads may run in it); the C declarations are made once per
-- lua_State, also when the module is loaded a second time.

local ffi = require "ffi"
local generated = require "treadle.cdef"

local SONAME = "libtreadle.so.0"
local RTLD_NOW, RTLD_NOLOAD, RTLD_NODELETE = 0x2, 0x4, 0x1000

if not pcall(ffi.typeof, "tdl_event") then
  ffi.cdef(generated.cdef)
end
pcall(ffi.cdef, [[
void *dlopen(const char *file, int mode);
]])

local here = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"

---@param path string
---@return boolean
local function readable(path)
  local file = io.open(path, "rb")
  if file then file:close() end
  return file ~= nil
end

--- Whether some library with our SONAME is in the process already: the one that
--- the Python binding or a C program brought. All must share one core.
---@return boolean
local function resident()
  local ok, handle = pcall(function() return ffi.C.dlopen(SONAME, RTLD_NOW + RTLD_NOLOAD) end)
  return ok and handle ~= nil
end

--- The names to try, best first.
---@return string[]
local function candidates()
  local chosen = os.getenv "TREADLE_LIB"
  if chosen and chosen ~= "" then return { chosen } end
  if resident() then return { SONAME } end
  local list = {}
  for _, name in ipairs { SONAME, "libtreadle.so" } do
    if readable(here .. name) then list[#list + 1] = here .. name end
  end
  list[#list + 1] = package.searchpath("treadle.libtreadle", package.cpath)
  list[#list + 1] = SONAME
  return list
end

---@return ffi.namespace*, string name it was found under
local function open()
  local tried = {}
  for _, name in ipairs(candidates()) do
    local ok, library = pcall(ffi.load, name)
    if ok then
      pcall(function() return ffi.C.dlopen(name, RTLD_NOW + RTLD_NODELETE) end)
      return library, name
    end
    tried[#tried + 1] = "\n\t" .. tostring(library)
  end
  error("treadle: libtreadle was not found (TREADLE_LIB may name it):" .. table.concat(tried), 0)
end

--- Raises when the library speaks another ABI than the declarations.
---@param library ffi.namespace*
---@param name string
local function verify(library, name)
  local known, found = pcall(function() return library.tdl_abi_version() end)
  if not known then
    error("treadle: " .. name .. " is not a treadle library: " .. tostring(found), 0)
  end
  if found ~= generated.abi then
    error(("treadle: %s speaks ABI %d (version %s), this binding needs ABI %d (version %s)"):format(
      name, found, ffi.string(library.tdl_version()), generated.abi, generated.version), 0)
  end
  for _, struct in ipairs(generated.structs) do
    local theirs, ours = tonumber(library.tdl_abi_size(struct)), ffi.sizeof(struct)
    if theirs ~= ours then
      error(("treadle: %s has a %s of %d bytes, this binding one of %d"):format(name, struct, theirs, ours), 0)
    end
  end
end

--- Looks every function up once: a name that LuaJIT has not seen yet makes it
--- throw a trace away, and one that is missing is better known now.
---@param library ffi.namespace*
---@param name string
local function resolve(library, name)
  for symbol in generated.cdef:gmatch "(tdl_[%w_]+)%(" do
    local found = pcall(function() return library[symbol] end)
    if not found then error(("treadle: %s has no %s"):format(name, symbol), 0) end
  end
end

jit.off(resolve, true) -- it has no use for a trace

local library, name = open()
verify(library, name)
resolve(library, name)

return {
  C = library,
  const = generated.const,
  version = generated.version,
}
