-- SPDX-License-Identifier: MIT
-- What is said when something fails: short stable strings for what the
-- environment does (returned as nil, text), errors that blame the caller's line
-- for misuse, and the object that unwinds a goroutine which ignores that it was
-- cancelled.
--
-- Invariant: a text never changes between releases; programs compare them.

local ffi = require "ffi"
local library = require "treadle.library"
local C = library.C

-- By stable name and not by number, which differs between systems.
local TEXT = {
  TDL_ECLOSED = "closed",
  TDL_ETIMEDOUT = "timeout",
  TDL_ECANCELED = "cancelled",
  TDL_EAGAIN = "not ready",
  TDL_EINVAL = "invalid argument",
  TDL_ENOMEM = "out of memory",
  TDL_EADDRESS = "bad address",
  TDL_EPORT = "bad port",
  TDL_ENETWORK = "unknown network",
  TDL_ETRUNCATED = "truncated",
  TDL_ENOPOLL = "cannot be polled",
  TDL_ENONAME = "no such host",
  TDL_ENAMESERVER = "no name server",
  TDL_ESIM = "not in a simulation",
  TDL_ENOTLS = "no tls",
  TDL_ETLS = "tls failed",
  TDL_ETLSALERT = "tls refused",
  TDL_ECERT = "certificate not trusted",
  TDL_ECERTNAME = "certificate for another name",
  TDL_ETLSEOF = "cut off",
  TDL_EEOF = "closed",
  TDL_ETOOLONG = "too long",
  ECONNREFUSED = "connection refused",
  ECONNRESET = "connection reset",
  ECONNABORTED = "connection aborted",
  EPIPE = "broken pipe",
  EADDRINUSE = "address in use",
  EADDRNOTAVAIL = "address not available",
  EMFILE = "too many open files",
  ENFILE = "too many open files",
  ENOMEM = "out of memory",
  ENOBUFS = "no buffer space",
  ENOTCONN = "not connected",
  EHOSTUNREACH = "host unreachable",
  ENETUNREACH = "network unreachable",
  ETIMEDOUT = "timeout",
  EACCES = "permission denied",
  EPERM = "permission denied",
  ENOENT = "no such file or directory",
  EAFNOSUPPORT = "address family not supported",
  EBADF = "bad descriptor",
  EDESTADDRREQ = "no destination",
  EALREADY = "already done",
  EEXIST = "already exists",
  EMSGSIZE = "message too long",
  ENAMETOOLONG = "name too long",
  ENODEV = "no such device",
  ENOTTY = "not a terminal",
  ENOTDIR = "not a directory",
  EISDIR = "is a directory",
  ENOTEMPTY = "directory not empty",
  ELOOP = "too many symbolic links",
  ENOSPC = "no space left",
  EROFS = "read-only file system",
  EXDEV = "on another file system",
  EFBIG = "file too large",
  ENOEXEC = "not executable",
  E2BIG = "arguments too long",
  ESRCH = "no such process",
  EAGAIN = "would wait",
  EINVAL = "invalid argument",
  EIO = "input/output error",
  EBUSY = "busy",
  EOPNOTSUPP = "not supported",
  ENOPROTOOPT = "not supported",
  ENOTSOCK = "not a socket",
}

local M = {}

--- Text of a negative result code.
---@type table<integer, string>
M.text = setmetatable({}, {
  __index = function(cache, code)
    local text = TEXT[ffi.string(C.tdl_errname(code))] or ffi.string(C.tdl_strerror(code))
    cache[code] = text
    return text
  end,
})

local codes -- by text; made when first needed

local function note_codes(from, to)
  for code = to, from, -1 do
    if TEXT[ffi.string(C.tdl_errname(-code))] then codes[M.text[-code]] = -code end
  end
end

--- A code that has this text, treadle's own before the system's; nil for one that no error has.
---@param text string
---@return integer|nil code
function M.code_of(text)
  if not codes then
    codes = {}
    note_codes(1, 4095)
    note_codes(4097, 4199)
  end
  return codes[text]
end

--- Raised, from the second blocking call on, in a goroutine that goes on after
--- it has been told "cancelled". tostring gives "treadle: cancelled".
M.CANCELLED = setmetatable({}, {
  __name = "treadle.cancelled",
  __tostring = function() return "treadle: cancelled" end,
})

local ours = debug.getinfo(1, "S").source:match("^(.*/)") or "\0"

--- Raises an error at the line, outside this library, that made the call; where that was a tail call
--- or pcall's, at the one that called for it.
---@param message string
function M.misuse(message)
  local level = 2
  local frame = debug.getinfo(level, "S")
  while frame and (frame.what == "C" or frame.source:sub(1, #ours) == ours) do
    level = level + 1
    frame = debug.getinfo(level, "S")
  end
  error("treadle: " .. message, frame and level or 0)
end

--- Raises for what is no table of options, or has one that there is not: a name that is spelt wrong would have no
--- effect, and nobody would know.
---@param options any nil: none are given
---@param what string whose options: "dial"
---@param known string the names, each followed by a space
function M.check_options(options, what, known)
  if options == nil then return end
  if type(options) ~= "table" then M.misuse(what .. " expects a table of options") end
  for name in pairs(options) do
    if type(name) ~= "string" or name:find(" ", 1, true) or not (" " .. known):find(" " .. name .. " ", 1, true) then
      M.misuse(("%s has no option %s; it has %s"):format(what, tostring(name), (known:gsub(" $", ""):gsub(" ", ", "))))
    end
  end
end

return M
