-- SPDX-License-Identifier: MIT
-- Regular expressions, compiled and matched by PCRE2.
--
-- The library is looked for when first needed.
--
-- Invariants: a compiled expression and its match data are freed with the Lua
-- object that holds them.  A match calls nothing back, and nothing waits between
-- a match and the reading of its offsets.

local ffi = require "ffi"

pcall(ffi.cdef, [[
typedef struct pcre2_real_code_8 pcre2_code_8;
typedef struct pcre2_real_match_data_8 pcre2_match_data_8;
pcre2_code_8 *pcre2_compile_8(const char *pattern, size_t n, uint32_t options, int *code, size_t *offset, void *context);
void pcre2_code_free_8(pcre2_code_8 *code);
int pcre2_jit_compile_8(pcre2_code_8 *code, uint32_t options);
int pcre2_match_8(const pcre2_code_8 *code, const char *subject, size_t n, size_t start, uint32_t options,
                  pcre2_match_data_8 *data, void *context);
int pcre2_dfa_match_8(const pcre2_code_8 *code, const char *subject, size_t n, size_t start, uint32_t options,
                      pcre2_match_data_8 *data, void *context, int *workspace, size_t size);
pcre2_match_data_8 *pcre2_match_data_create_from_pattern_8(const pcre2_code_8 *code, void *context);
void pcre2_match_data_free_8(pcre2_match_data_8 *data);
size_t *pcre2_get_ovector_pointer_8(pcre2_match_data_8 *data);
int pcre2_pattern_info_8(const pcre2_code_8 *code, uint32_t what, void *where);
int pcre2_get_error_message_8(int code, char *buffer, size_t n);
]])

local library
local function pcre()
  if library then return library end
  for _, name in ipairs { "libpcre2-8.so.0", "pcre2-8" } do
    local ok, found = pcall(ffi.load, name)
    if ok then
      library = found
      return found
    end
  end
  error("treadle.compat.ngx: regular expressions need libpcre2-8, which was not found (Debian: libpcre2-8-0)", 0)
end

local ANCHORED, NO_UTF_CHECK = 0x80000000, 0x40000000
local CASELESS, DOTALL, DUPNAMES, EXTENDED, MULTILINE = 0x8, 0x20, 0x40, 0x80, 0x400
local UTF, ALLOW_EMPTY_CLASS, ALT_BSUX, MATCH_UNSET_BACKREF = 0x80000, 0x1, 0x2, 0x200
local JIT_COMPLETE = 1
local CAPTURE_COUNT, NAME_COUNT, NAME_SIZE, NAME_TABLE = 4, 17, 18, 19
local NOMATCH = -1

-- "j" asks for the compiler, "o" to keep what was compiled, "d" for the other
-- algorithm: none of them is one of PCRE's options.
local FLAGS = {
  a = ANCHORED, i = CASELESS, m = MULTILINE, s = DOTALL, x = EXTENDED, u = UTF, U = UTF + NO_UTF_CHECK, D = DUPNAMES,
  J = ALLOW_EMPTY_CLASS + ALT_BSUX + MATCH_UNSET_BACKREF, j = 0, o = 0, d = 0,
}

local code_out, offset_out = ffi.new "int[1]", ffi.new "size_t[1]"
local number_out, pointer_out = ffi.new "uint32_t[1]", ffi.new "const unsigned char *[1]"
local message = ffi.new "char[256]"
local workspace = ffi.new "int[1000]"

local function explain(code)
  pcre().pcre2_get_error_message_8(code, message, 256)
  return ffi.string(message)
end

---@class treadle.ngx.Regex
---@field count integer of groups
---@field names table<integer, string> of groups
---@field dup boolean a name may be that of several
---@field dfa boolean
local Regex = {}
Regex.__index = Regex

local function info(code, what)
  pcre().pcre2_pattern_info_8(code, what, number_out)
  return number_out[0]
end

local function group_names(code)
  local names, count, size = {}, info(code, NAME_COUNT), info(code, NAME_SIZE)
  pcre().pcre2_pattern_info_8(code, NAME_TABLE, pointer_out)
  local entry = pointer_out[0]
  for _ = 1, count do
    names[entry[0] * 256 + entry[1]] = ffi.string(entry + 2)
    entry = entry + size
  end
  return names
end

local M = {}

local cache = {} -- of those compiled with "o"

--- Compiles an expression.
---@param pattern string
---@param options string letters, as of ngx.re.match
---@return treadle.ngx.Regex|nil
---@return string|nil err
function M.compile(pattern, options)
  local key = options .. "/" .. pattern
  local kept = cache[key]
  if kept then return kept end
  local flags, jit, keep, dfa = {}, false, false, false
  for letter in options:gmatch "." do
    local flag = FLAGS[letter]
    if not flag then error(('unknown flag "%s" (flags "%s")'):format(letter, options), 3) end
    flags[letter] = flag
    jit, keep, dfa = jit or letter == "j", keep or letter == "o", dfa or letter == "d"
  end
  local bits = 0
  for letter, flag in pairs(flags) do
    if not (letter == "u" and flags.U) then bits = bits + flag end
  end
  local lib = pcre()
  local code = lib.pcre2_compile_8(pattern, #pattern, bits, code_out, offset_out, nil)
  if code == nil then
    return nil, ('pcre2_compile() failed: %s in "%s" at "%s"'):format(
      explain(code_out[0]), pattern, pattern:sub(tonumber(offset_out[0]) + 1))
  end
  if jit and not dfa then lib.pcre2_jit_compile_8(code, JIT_COMPLETE) end
  local data = lib.pcre2_match_data_create_from_pattern_8(code, nil)
  local regex = setmetatable({
    code = ffi.gc(code, lib.pcre2_code_free_8), data = ffi.gc(data, lib.pcre2_match_data_free_8),
    offsets = lib.pcre2_get_ovector_pointer_8(data),
    count = info(code, CAPTURE_COUNT), names = group_names(code), dup = flags.D ~= nil, dfa = dfa,
  }, Regex)
  if keep then cache[key] = regex end
  return regex
end

--- Matches from the 0-based position on.  How many groups are set, 0 for none
--- (no match), or nil and the error.
---@param subject string
---@param start integer
---@return integer|nil n offsets[2 i], offsets[2 i + 1] for i < n
---@return string|nil err
function Regex:exec(subject, start)
  local n
  if self.dfa then
    n = library.pcre2_dfa_match_8(self.code, subject, #subject, start, 0, self.data, nil, workspace, 1000)
    if n > 1 then n = 1 end
  else
    n = library.pcre2_match_8(self.code, subject, #subject, start, 0, self.data, nil)
  end
  if n > 0 then return n end
  if n == NOMATCH then return 0 end
  if n == 0 then return 1 end
  return nil, ("pcre2_match() failed: %d (%s)"):format(n, explain(n))
end

return M
