-- SPDX-License-Identifier: MIT
-- The `ngx` of OpenResty, without nginx: what client libraries for it need.
--
--     local ngx = require "treadle.compat.ngx"
--     ngx.install()                       -- the global ngx, and ngx.semaphore & co. for require
--     local redis = require "resty.redis"
--
-- This file only gathers; each part is documented where it is.

local ffi = require "ffi"
local library = require "treadle.library"
local common = require "treadle.compat.common"
local goroutine = require "treadle.goroutine"
local park = require "treadle.park"
local clock = require "treadle.compat.ngx.clock"
local codec = require "treadle.compat.ngx.codec"
local dict = require "treadle.compat.ngx.dict"
local log = require "treadle.compat.ngx.log"
local re = require "treadle.compat.ngx.re"
local request = require "treadle.compat.ngx.request"
local semaphore = require "treadle.compat.ngx.semaphore"
local ssl = require "treadle.compat.ngx.ssl"
local tcp = require "treadle.compat.ngx.tcp"
local thread = require "treadle.compat.ngx.thread"
local timer = require "treadle.compat.ngx.timer"
local udp = require "treadle.compat.ngx.udp"
local uri = require "treadle.compat.ngx.uri"


pcall(ffi.cdef, [[int tdl_compat_getpid(void) __asm__("getpid");]])

-- nginx has one NULL, which cjson and others have, too.
local null = ffi.cast("void *", 0)

local ngx = {
  null = null,
  OK = 0, ERROR = -1, AGAIN = -2, DONE = -4, DECLINED = -5,
  HTTP_OK = 200, HTTP_CREATED = 201, HTTP_NO_CONTENT = 204, HTTP_MOVED_PERMANENTLY = 301, HTTP_MOVED_TEMPORARILY = 302,
  HTTP_NOT_MODIFIED = 304, HTTP_BAD_REQUEST = 400, HTTP_UNAUTHORIZED = 401, HTTP_FORBIDDEN = 403, HTTP_NOT_FOUND = 404,
  HTTP_NOT_ALLOWED = 405, HTTP_CLOSE = 444, HTTP_INTERNAL_SERVER_ERROR = 500, HTTP_BAD_GATEWAY = 502,
  HTTP_SERVICE_UNAVAILABLE = 503, HTTP_GATEWAY_TIMEOUT = 504,
  socket = { tcp = tcp.tcp, stream = tcp.tcp, connect = tcp.connect, udp = udp.udp },
  thread = { spawn = thread.spawn, wait = thread.wait, kill = thread.kill },
  semaphore = semaphore,
  timer = timer,
  re = re,
  req = request.req,
  header = request.header,
  var = request.var,
  shared = dict.shared,
  config = { subsystem = "http", debug = false, ngx_lua_version = 10023, nginx_version = 1022001, prefix = function() return "./" end },
  worker = {
    id = function() return 0 end, count = function() return 1 end, pid = function() return ffi.C.tdl_compat_getpid() end,
    exiting = function() return park.state.ending end,
  },
  now = clock.now, time = clock.time, update_time = clock.update_time, today = clock.today,
  localtime = clock.localtime, utctime = clock.utctime, http_time = clock.http_time, cookie_time = clock.cookie_time,
  parse_http_time = clock.parse_http_time,
  log = log.log,
  say = request.say, print = request.print, flush = request.flush, eof = request.eof, exit = request.exit,
  send_headers = request.send_headers,
  serve = request.serve,
  _VERSION = library.version,
}
for name, level in pairs(log) do
  if type(level) == "number" then ngx[name] = level end
end
for _, part in ipairs { codec, uri } do
  for name, f in pairs(part) do ngx[name] = f end
end

--- Waits; nothing is returned, as in nginx.
---@param seconds number
function ngx.sleep(seconds)
  seconds = tonumber(seconds)
  if not seconds or seconds < 0 then error("bad argument #1 to 'sleep' (invalid sleep duration)", 2) end
  local ok, err
  if seconds == 0 then ok, err = goroutine.yield() else ok, err = goroutine.sleep(seconds) end
  if not ok then common.text(err) end
end

--- "content" for a request, "timer" elsewhere: where cosockets may be used.
function ngx.get_phase() return request.current() and "content" or "timer" end

--- What is logged, and by whom: ngx.log_to(ngx.INFO, function(line) … end).
ngx.log_to = log.set
--- What nginx's directives lua_ssl_… say: ngx.ssl_settings { trusted_certificate = "ca.pem" }.
ngx.ssl_settings = ssl.set

local contexts = setmetatable({}, { __mode = "k" }) -- task: its ngx.ctx, outside a request

setmetatable(ngx, {
  __index = function(_, name)
    local current = request.current()
    if name == "ctx" then
      if current then return current.ctx end
      local task = park.running_task()
      local ctx = contexts[task] or {}
      contexts[task] = ctx
      return ctx
    elseif name == "status" then
      return current and current.status
    elseif name == "headers_sent" then
      return current ~= nil and current.sent
    end
  end,
  __newindex = function(self, name, value)
    if name == "status" then
      request.need().status = value
    elseif name == "ctx" then
      local current = request.current()
      if current then current.ctx = value else contexts[park.running_task()] = value end
    else
      rawset(self, name, value)
    end
  end,
})

-- A thread belongs to the request of who spawned it.
function ngx.thread.spawn(f, ...)
  local current = request.current()
  if not current or type(f) ~= "function" then return thread.spawn(f, ...) end
  return thread.spawn(function(...)
    request.inherit(park.running_task(), current)
    return f(...)
  end, ...)
end

--- Makes it the global `ngx`, and lets require find "ngx.semaphore" and its like.
---@return table ngx
function ngx.install()
  _G.ngx = ngx
  package.loaded["ngx.semaphore"] = semaphore
  package.loaded["ngx.base64"] = package.loaded["ngx.base64"] or {
    encode_base64url = function(text)
      return (ngx.encode_base64(text, true):gsub("[+/]", { ["+"] = "-", ["/"] = "_" }))
    end,
    decode_base64url = function(text) return ngx.decode_base64((text:gsub("[-_]", { ["-"] = "+", ["_"] = "/" }))) end,
  }
  return ngx
end

return ngx
