-- SPDX-License-Identifier: MIT
-- TLS of cosockets: sessions, what nginx's directives say, the texts of errors.
--
-- Invariant: a session is fetched when it is needed, or before its connection goes: a
-- server of TLS 1.3 sends it behind the handshake.  While `conn` is set, `ptr` may be old.

local library = require "treadle.library"
local common = require "treadle.compat.common"
local tls = require "treadle.tls"
local C, const = library.C, library.const

--- What nginx's directives lua_ssl_… are.
---@class treadle.ngx.SslSettings
---@field trusted_certificate string|nil a file, a directory or PEM text; nil: whom the system trusts
---@field ciphers string|nil
---@field protocols string[]|nil of "TLSv1.2", "TLSv1.3": the lowest and the highest count
---@field certificate string|nil the client's own
---@field certificate_key string|nil

local M = {}
local settings, configs = {}, {}

--- Sets what every later handshake of a cosocket uses.
---@param given treadle.ngx.SslSettings|nil
function M.set(given)
  settings, configs = given or {}, {}
end

local function versions()
  local low, high
  for _, name in ipairs(settings.protocols or {}) do
    local version = name:match "^TLSv(1%.%d)$" or name:match "^TLSv1$" and "1.0"
    if version then
      if not low or version < low then low = version end
      if not high or version > high then high = version end
    end
  end
  return low, high
end

--- The config for a kind of verifying.
local function config_for(verify)
  local known = configs[verify]
  if known then return known end
  local low, high = versions()
  local made, _, why = tls.config {
    verify = verify, ca = settings.trusted_certificate, ciphers = settings.ciphers, cert = settings.certificate,
    key = settings.certificate_key, min_version = low, max_version = high,
  }
  configs[verify] = made
  return made, why
end

---@class treadle.ngx.Session
---@field conn treadle.Conn|nil whose session it is
---@field last treadle.TlsSession|nil
local Session = {}
Session.__index = Session

--- The session as it is now.
local function fetch(self)
  local conn = self.conn
  self.last = conn and conn:tls_session() or self.last
  return self.last
end

--- Before the connection goes.
function M.leave(conn)
  local session = conn.ngx_session
  if session and session.conn == conn then
    fetch(session)
    session.conn = nil
  end
end

local function session_of(conn)
  if not conn.ngx_session then conn.ngx_session = setmetatable({ conn = conn }, Session) end
  return conn.ngx_session
end

--- What a client is told of a handshake that failed.
local function reason(conn, err)
  if err == "certificate for another name" then return "certificate host mismatch" end
  if err == "certificate not trusted" then
    local info = conn:tls_info()
    local code = C.tdl_conn_tls_number(conn.ptr, const.TDL_TLS_VERIFY_CODE)
    if info and code > 0 then return ("%d: %s"):format(code, info.verify) end
  end
  if err == "timeout" then return err end
  common.text(err) -- unwinds who was cancelled
  return "handshake failed"
end

--- The handshake of a cosocket's connection: a session or true, or nil and the text.
---@param conn treadle.Conn
---@param reused treadle.ngx.Session|boolean|nil
---@param name string|nil
---@param verify boolean|nil
---@return treadle.ngx.Session|true|nil
---@return string|nil err
function M.handshake(conn, reused, name, verify)
  local known = getmetatable(reused) == Session
  if C.tdl_conn_tls_number(conn.ptr, const.TDL_TLS_DONE) == 1 then -- it has been done
    if reused == false then return true end
    return known and reused or session_of(conn)
  end
  local kind = verify and (name and true or "chain") or false
  local config, why = config_for(kind)
  if not config then return nil, why end
  local ok, err = conn:starttls(config, name, known and fetch(reused) or nil)
  if not ok then
    if err == "no tls" then return nil, "not supported" end
    return nil, reason(conn, err)
  end
  if reused == false then return true end
  return session_of(conn)
end

return M
