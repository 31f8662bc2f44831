-- SPDX-License-Identifier: MIT
-- Digests, checksums and base64, by OpenSSL's libcrypto and zlib.
--
-- Both are looked for when first needed: who does not use them needs neither.

local ffi = require "ffi"

pcall(ffi.cdef, [[
unsigned char *SHA1(const unsigned char *data, size_t n, unsigned char *digest);
unsigned char *MD5(const unsigned char *data, size_t n, unsigned char *digest);
const void *EVP_sha1(void);
unsigned char *HMAC(const void *md, const void *key, int keylen, const unsigned char *data, size_t n,
                    unsigned char *digest, unsigned int *len);
int EVP_EncodeBlock(unsigned char *to, const unsigned char *from, int n);
int EVP_DecodeBlock(unsigned char *to, const unsigned char *from, int n);
unsigned long crc32(unsigned long crc, const unsigned char *data, unsigned int n);
]])

local function finder(what, names)
  local found
  return function()
    if found then return found end
    for _, name in ipairs(names) do
      local ok, library = pcall(ffi.load, name)
      if ok then
        found = library
        return library
      end
    end
    error(("treadle.compat.ngx: this needs %s, which was not found (%s)"):format(what, table.concat(names, ", ")), 3)
  end
end

local crypto = finder("OpenSSL", { "libcrypto.so.3", "libcrypto.so.1.1", "crypto" })
local zlib = finder("zlib", { "libz.so.1", "z" })

local bytes_type = ffi.typeof "unsigned char[?]"
local digest = ffi.new "unsigned char[64]"
local length = ffi.new "unsigned int[1]"

local function text(value)
  if value == nil then return "" end
  return type(value) == "string" and value or tostring(value)
end

local function hex(binary)
  return (binary:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
end

local M = {}

--- The SHA-1 digest, 20 bytes.
---@param data string|number|nil
---@return string digest
function M.sha1_bin(data)
  data = text(data)
  crypto().SHA1(data, #data, digest)
  return ffi.string(digest, 20)
end

--- The MD5 digest, 16 bytes.
---@param data string|number|nil
---@return string digest
function M.md5_bin(data)
  data = text(data)
  crypto().MD5(data, #data, digest)
  return ffi.string(digest, 16)
end

--- The MD5 digest in hexadecimal digits.
---@param data string|number|nil
---@return string digest
function M.md5(data) return hex(M.md5_bin(data)) end

--- The HMAC of SHA-1, 20 bytes.
---@param key string|number
---@param data string|number
---@return string|nil digest
function M.hmac_sha1(key, data)
  key, data = text(key), text(data)
  local library = crypto()
  if library.HMAC(library.EVP_sha1(), key, #key, data, #data, digest, length) == nil then return nil end
  return ffi.string(digest, length[0])
end

--- The CRC-32. (zlib takes a 32-bit length: longer data go in parts.)
---@param data string|number
---@return integer
function M.crc32_long(data)
  data = text(data)
  local library, crc, p, at = zlib(), 0, ffi.cast("const unsigned char *", data), 0
  while at < #data do
    local n = math.min(#data - at, 2 ^ 30)
    crc, at = library.crc32(crc, p + at, n), at + n
  end
  return tonumber(crc)
end
M.crc32_short = M.crc32_long

--- In base64.
---@param data string|number
---@param no_padding boolean|nil
---@return string
function M.encode_base64(data, no_padding)
  data = text(data)
  local out = bytes_type(math.ceil(#data / 3) * 4 + 1)
  local encoded = ffi.string(out, crypto().EVP_EncodeBlock(out, data, #data))
  return no_padding and encoded:gsub("=+$", "") or encoded
end

--- From base64; nil for what is none. The padding may be missing.
---@param data string
---@return string|nil
function M.decode_base64(data)
  if type(data) ~= "string" then error("string argument only", 2) end
  local body = data:match "^([%w+/]*)=*$"
  if not body or #body % 4 == 1 then return nil end
  if body == "" then return "" end
  local padded = body .. ("="):rep(-#body % 4)
  local out = bytes_type(#padded)
  if crypto().EVP_DecodeBlock(out, padded, #padded) < 0 then return nil end
  return ffi.string(out, math.floor(#body * 3 / 4))
end

return M
