-- SPDX-License-Identifier: MIT
-- TLS on connections: what they have in common (a config), giving one TLS, what it
-- tells about itself.
--
-- Invariants: a config's `ptr` is never NULL; connections and other configs hold
-- what they need of it in the core.  A listener with TLS has its config in `tls`: what
-- it accepts is given TLS, and the first call that reads or writes does the handshake.

local ffi = require "ffi"
local library = require "treadle.library"
local conn = require "treadle.conn"
local class = require "treadle.class"
local errors = require "treadle.errors"
local net = require "treadle.net"
local park = require "treadle.park"
local C, const = library.C, library.const

local state, hold, fail = park.state, park.hold, park.fail
local misuse = errors.misuse
local Conn = conn.Conn
local NO_CONN = ffi.cast("tdl_conn *", nil)

local room = 16384
local buffer = ffi.new("char[?]", room)
local WHY = 512
local why = ffi.new("char[?]", WHY)

--- What connections have in common, from treadle.tls.config.
---@class treadle.TlsConfig
---@field ptr ffi.cdata* tdl_tls
---@field server boolean
---@field checks_name boolean a client's: a name is needed
local Config = {}
Config.__index = Config
class.public(Config, "tls config")

function Config:__tostring() return self.server and "tls config of a server" or "tls config of a client" end

---@class treadle.TlsOptions
---@field server boolean|nil for the accepting side; it is when there are `names` or `client_cert`, and in treadle.tls.listen
---@field cert string|nil our certificate, and behind it those up to the root: PEM text or the path of such a file
---@field key string|nil its key, the same; nil: it is in cert
---@field password string|nil of the key
---@field ca string|nil whom to trust: PEM text, a file or a directory; nil: whom the system trusts
---@field verify boolean|"chain"|nil client: true or nil: the certificate must be trusted, and for the name; "chain": only
---trusted; false: any will do
---@field client_cert "ask"|"need"|nil server: whether clients are to have a certificate
---@field alpn string[]|nil the application's protocols, the best first: { "h2", "http/1.1" }
---@field ciphers string|nil as `openssl ciphers` takes them
---@field min_version "1.0"|"1.1"|"1.2"|"1.3"|nil "1.2" when nil
---@field max_version "1.0"|"1.1"|"1.2"|"1.3"|nil
---@field resume boolean|nil false: sessions are not resumed
---@field names table<string, treadle.TlsConfig>|nil server: certificates for other names ("*.example.org" too)
---@field known_names boolean|nil server: a client that asks for a name that is not in `names` is refused

local VERSIONS = {
  ["1.0"] = const.TDL_TLS_1_0, ["1.1"] = const.TDL_TLS_1_1, ["1.2"] = const.TDL_TLS_1_2, ["1.3"] = const.TDL_TLS_1_3,
}
local CLIENT_CERT = { ask = const.TDL_TLS_ASK_CLIENT, need = const.TDL_TLS_NEED_CLIENT }
local TEXTS = { "cert", "key", "password", "ca", "ciphers" }
local KNOWN = {
  server = true, verify = true, client_cert = true, alpn = true, min_version = true, max_version = true, resume = true,
  names = true, known_names = true, timeout = true, from = true, fallback_delay = true, server_name = true, session = true,
  backlog = true, reuseport = true, keep_path = true,
}
for _, name in ipairs(TEXTS) do KNOWN[name] = true end

local function version(options, name)
  local given = options[name]
  if given == nil then return 0 end
  return VERSIONS[given] or misuse(('%s is "1.2" or "1.3", not %s'):format(name, tostring(given)))
end

local function flags_of(options, server)
  local verify, client_cert = options.verify, options.client_cert
  if verify ~= nil and type(verify) ~= "boolean" and verify ~= "chain" then
    misuse('verify is true, false or "chain", not ' .. tostring(verify))
  end
  if client_cert ~= nil and not CLIENT_CERT[client_cert] then
    misuse('client_cert is "ask" or "need", not ' .. tostring(client_cert))
  end
  local flags = options.resume == false and const.TDL_TLS_NO_RESUME or 0
  if not server then
    if verify == false then return flags + const.TDL_TLS_NO_VERIFY end
    return flags + (verify == "chain" and const.TDL_TLS_ANY_NAME or 0)
  end
  return flags + const.TDL_TLS_SERVER + (client_cert and CLIENT_CERT[client_cert] or 0)
    + (options.known_names and const.TDL_TLS_KNOWN_NAME or 0)
end

local M = {}

local function failed(rc)
  return nil, fail(rc), ffi.string(why)
end

--- Makes a config, for any number of connections.  Reads the files at once.
---@param options treadle.TlsOptions|nil
---@return treadle.TlsConfig|nil config
---@return string|nil err "certificate not trusted" (a certificate or key is not one, or they do not go together), "no such file or
---directory", "tls failed" (ciphers), "no tls" (OpenSSL 3 cannot be loaded), …
---@return string|nil text with an error: which, and why, for people
function M.config(options)
  options = options or {}
  if type(options) ~= "table" then misuse "tls expects a table of options" end
  for name in pairs(options) do
    if not KNOWN[name] then misuse("there is no option " .. tostring(name)) end
  end
  local server = (options.server or options.client_cert or options.names) and true or false
  local o = ffi.new "tdl_tls_options"
  o.size, o.flags = ffi.sizeof(o), flags_of(options, server)
  o.min_version, o.max_version = version(options, "min_version"), version(options, "max_version")
  for _, name in ipairs(TEXTS) do
    local given = options[name]
    if given ~= nil and type(given) ~= "string" then misuse(("%s is a string, not %s"):format(name, type(given))) end
    o[name] = given
  end
  local alpn = options.alpn
  if alpn ~= nil then
    if type(alpn) ~= "table" then misuse "alpn is a table of names" end
    alpn = table.concat(alpn, ",")
    o.alpn = alpn
  end
  if server and not options.cert then misuse "a server needs a certificate" end
  for _, other in pairs(options.names or {}) do
    if getmetatable(other) ~= Config or not other.server then misuse "names has configs of servers" end
  end
  local out = ffi.new "tdl_tls *[1]"
  local rc = C.tdl_tls_new(o, out, why, WHY)
  if rc < 0 then return failed(rc, alpn) end -- o points to alpn
  local self = setmetatable({ ptr = ffi.gc(out[0], C.tdl_tls_free), server = server }, Config)
  self.checks_name = not server and (options.verify == nil or options.verify == true)
  for name, other in pairs(options.names or {}) do
    rc = C.tdl_tls_add_name(self.ptr, name, other.ptr)
    if rc < 0 then return nil, fail(rc), name end
  end
  return self
end

local clients -- the config of those who give no options

local function config_of(given)
  if getmetatable(given) == Config then return given end
  if given ~= nil then return M.config(given) end
  local err, more
  if not clients then clients, err, more = M.config() end
  return clients, err, more
end

local function text_of(self, what)
  if self.ptr == NO_CONN then return nil, "closed" end
  local n = C.tdl_conn_tls_text(self.ptr, what, buffer, room)
  if n == const.TDL_EINVAL then return nil, "no tls" end
  if n < 0 then return nil, fail(n) end
  return ffi.string(buffer)
end

local function why_not(self, rc)
  local err = fail(rc)
  local text = text_of(self, const.TDL_TLS_ERROR)
  return nil, err, text and text ~= "" and text or err
end

--- Gives the connection TLS, without a handshake.
local function give(self, config, server_name, session)
  if config.checks_name and not server_name then misuse "the server's name is needed: its certificate must be for it" end
  if server_name ~= nil and type(server_name) ~= "string" then misuse "the server's name is a string" end
  if self.ptr == NO_CONN then return nil, "closed" end
  local rc = C.tdl_conn_set_tls(self.ptr, config.ptr, not config.server and server_name or nil, session and session.ptr)
  if rc == const.TDL_EBUSY then return nil, "busy" end
  if rc < 0 then return nil, fail(rc) end
  return true
end

--- Begins TLS on a connection, and does the handshake.  Plain bytes that have arrived and were not
--- read count as the beginning of the peer's TLS, never as bytes that came through it.
---@param options treadle.TlsConfig|treadle.TlsOptions|nil nil: a client's, who trusts whom the system trusts
---@param server_name string|nil client: the name asked for, for which the certificate must be; an IP address is possible
---@param session treadle.TlsSession|nil one to resume
---@return true|nil done
---@return string|nil err "certificate not trusted", "certificate for another name", "tls refused" (by the peer), "tls failed" (nothing in
---common, or the peer speaks none), "cut off", "timeout", "already done", "busy" (a call is under way), …
---@return string|nil text with an error of TLS: the reason and the peer's address, for people
function Conn:starttls(options, server_name, session)
  local config, err, more = config_of(options)
  if not config then return nil, err, more end
  local ok
  ok, err = give(self, config, server_name, session)
  if not ok then return nil, err end
  return self:handshake()
end

--- Does the handshake, if nobody has: then its errors come here, and not from the first read.
---@return true|nil done
---@return string|nil err as for starttls; "no tls"
---@return string|nil text
function Conn:handshake()
  if self.ptr ~= NO_CONN and C.tdl_conn_has_tls(self.ptr) == 0 then return nil, "no tls" end
  local rc = hold(C.tdl_conn_handshake_start(state.host, state.id, self.ptr))
  if rc < 0 and self.ptr == NO_CONN and rc == const.TDL_EINVAL and state.id ~= park.NO_TASK then rc = const.TDL_ECLOSED end
  if rc < 0 then return why_not(self, rc) end
  return true
end

---@class treadle.TlsInfo
---@field version string "TLSv1.3"; "" before the handshake, as most of these
---@field cipher string
---@field alpn string
---@field server_name string that the client has asked for
---@field subject string of the peer's certificate: "CN=localhost"; "" when it has none
---@field issuer string
---@field verify string "ok", or what is wrong with it, also where it need not be right
---@field resumed boolean
---@field done boolean the handshake is done

local INFO = {
  version = const.TDL_TLS_VERSION, cipher = const.TDL_TLS_CIPHER, alpn = const.TDL_TLS_ALPN,
  server_name = const.TDL_TLS_SERVER_NAME, subject = const.TDL_TLS_SUBJECT, issuer = const.TDL_TLS_ISSUER,
  verify = const.TDL_TLS_VERIFY,
}

--- What the connection's TLS tells about itself.
---@return treadle.TlsInfo|nil info
---@return string|nil err "no tls", "closed"
function Conn:tls_info()
  local info = {}
  for name, what in pairs(INFO) do
    local text, err = text_of(self, what)
    if not text then return nil, err end
    info[name] = text
  end
  info.resumed = C.tdl_conn_tls_number(self.ptr, const.TDL_TLS_RESUMED) == 1
  info.done = C.tdl_conn_tls_number(self.ptr, const.TDL_TLS_DONE) == 1
  return info
end

--- The peer's certificate as PEM; "" when it has none.
---@return string|nil pem
---@return string|nil err "no tls", "closed"
function Conn:peer_cert() return text_of(self, const.TDL_TLS_PEER_CERT) end

--- Why TLS has failed on it, for people; "" when it has not.
---@return string|nil text
---@return string|nil err "no tls", "closed"
function Conn:tls_error() return text_of(self, const.TDL_TLS_ERROR) end

--- What a later connection to the same server can resume.
---@class treadle.TlsSession
---@field ptr ffi.cdata* tdl_tls_session

--- The session as it is now.  Ask after something was read: a server of TLS 1.3 sends it behind the handshake.
---@return treadle.TlsSession|nil session nil: there is none that can be resumed
function Conn:tls_session()
  if self.ptr == NO_CONN then return nil end
  local ptr = C.tdl_conn_tls_session(self.ptr)
  if ptr == nil then return nil end
  return { ptr = ffi.gc(ptr, C.tdl_tls_session_free) }
end

--- The host of an address.
local function host_of(address)
  local host = address:match "^%[([^%]%%]*)[^%]]*%]" or address:match "^(.*):[^:]*$" or address
  return host ~= "" and host or "localhost"
end

---@class treadle.TlsDialOptions: treadle.TlsOptions, treadle.DialOptions
---@field config treadle.TlsConfig|nil made before, instead of the options of TLS
---@field server_name string|nil instead of the address's host
---@field session treadle.TlsSession|nil

--- Dials, and does the handshake; both within the time limit.
---@param network "tcp"|"tcp4"|"tcp6"|"unix"
---@param address string
---@param options treadle.TlsDialOptions|treadle.TlsConfig|nil
---@return treadle.Conn|nil conn
---@return string|nil err as for treadle.dial and for Conn:starttls
---@return string|nil text
function M.connect(network, address, options)
  local ready = getmetatable(options) == Config
  local o = not ready and options or {}
  local config, err, more = config_of(type(o) == "table" and o.config or options)
  if not config then return nil, err, more end
  local before = C.tdl_now()
  local c
  c, err, more = net.dial(network, address, { timeout = o.timeout, from = o.from, fallback_delay = o.fallback_delay })
  if not c then return nil, err, more end
  local name = o.server_name or (config.checks_name or not network:find "^unix") and host_of(address) or nil
  if o.timeout and o.timeout ~= math.huge then
    c:settimeout(math.max(o.timeout - tonumber(C.tdl_now() - before) / 1e9, 0))
  end
  local ok
  ok, err, more = c:starttls(config, name, o.session)
  if not ok then
    c:close()
    return nil, err, more
  end
  if o.timeout then c:settimeout(nil) end
  return c
end

--- Listens; what is accepted, or served by treadle.serve, has TLS.  The handshake is done by the first call that reads or
--- writes, or by handshake(): a slow client holds up nobody else.
---@param network "tcp"|"tcp4"|"tcp6"|"unix"
---@param address string
---@param options treadle.TlsOptions|treadle.TlsConfig of a server; treadle.listen's options may be among them
---@return treadle.Listener|nil listener
---@return string|nil err as for treadle.listen and treadle.tls.config
---@return string|nil text
function M.listen(network, address, options)
  local config, listen, err, more = options, {}
  if getmetatable(options) ~= Config then
    if type(options) ~= "table" then misuse "a server needs a certificate" end
    local all = { server = true }
    for name, value in pairs(options) do all[name] = value end
    listen = { backlog = all.backlog, reuseport = all.reuseport, keep_path = all.keep_path }
    config, err, more = M.config(all)
    if not config then return nil, err, more end
  end
  if not config.server then misuse "listen expects the config of a server" end
  local l
  l, err, more = net.listen(network, address, listen)
  if not l then return nil, err, more end
  l.tls = config
  return l
end

--- Which OpenSSL it is.
---@return string|nil version "OpenSSL 3.0.15 3 Sep 2024"
---@return string|nil err "no tls"
---@return string|nil text why it cannot be loaded
function M.library()
  local rc = C.tdl_tls_library(buffer, room)
  if rc < 0 then return nil, fail(rc), ffi.string(buffer) end
  return ffi.string(buffer)
end

M.give = give
M.Config = Config

return M
