-- SPDX-License-Identifier: MIT
-- Names, processes, signals, changes of files, and terminals.
--
-- Invariants: a process's `ptr` is NULL once it was given back, and it is freed
-- exactly once; a subscription to signals ends with its object.

local bit = require "bit"
local ffi = require "ffi"
local library = require "treadle.library"
local class = require "treadle.class"
local errors = require "treadle.errors"
local conn = require "treadle.conn"
local park = require "treadle.park"
local shared = require "treadle.shared"
local time = require "treadle.time"
local C, const = library.C, library.const

local state, hold, fail = park.state, park.hold, park.fail
local misuse, deadline = errors.misuse, time.deadline

local M = {}

-- -- Names -------------------------------------------------------------------

local MOST_FOUND = 64

local function no_zero(text, what)
  if type(text) ~= "string" then misuse(("%s must be a string, not %s"):format(what, type(text))) end
  return text:find("\0", 1, true) and "" or text
end

---@class treadle.LookupOptions
---@field network "tcp"|"tcp4"|"tcp6"|"udp"|"udp4"|"udp6"|nil "tcp" when nil
---@field port integer|nil then the addresses come with it, as treadle.dial takes them
---@field timeout number|nil seconds

--- The addresses of a host, in the order in which they are to be tried, as the system is configured.
---@param host string
---@param options treadle.LookupOptions|nil
---@return string[]|nil addresses
---@return string|nil err "no such host", "no name server", "bad address", "timeout", "cancelled"
---@return string|nil text with an error: the same with the name
function M.lookup(host, options)
  local name = no_zero(host, "the host")
  errors.check_options(options, "lookup", "network port timeout ")
  local port = options and options.port
  local network = no_zero(options and options.network or "tcp", "the network")
  local found = ffi.new("tdl_addr[?]", MOST_FOUND)
  local rc = hold(C.tdl_lookup_start(state.host, state.id, network, name, port or 0, found, MOST_FOUND,
    deadline(options and options.timeout)))
  if rc < 0 then
    local err = fail(rc, found)
    return nil, err, ("lookup %s: %s"):format(host, err)
  end
  local list, text = {}, ffi.new "char[128]"
  for i = 0, rc - 1 do
    local n = (port and C.tdl_addr_format or C.tdl_addr_host)(found + i, text, 128)
    list[i + 1] = ffi.string(text, n)
  end
  return list
end

--- The name of an address.
---@param address string without a port
---@param timeout number|nil seconds
---@return string|nil name
---@return string|nil err "no such host", "no name server", "bad address", …
---@return string|nil text
function M.lookup_name(address, timeout)
  no_zero(address, "the address")
  local at, buf = ffi.new "tdl_addr", ffi.new "char[1025]"
  local rc = C.tdl_addr_parse(at, "tcp", (address:find(":", 1, true) and "[%s]:0" or "%s:0"):format(address), 0)
  if rc == 0 then rc = hold(C.tdl_lookup_name_start(state.host, state.id, at, buf, 1025, deadline(timeout))) end
  if rc < 0 then
    local err = fail(rc, buf)
    return nil, err, ("lookup %s: %s"):format(address, err)
  end
  return ffi.string(buf)
end

-- -- Processes ----------------------------------------------------------------

local NO_PROCESS = ffi.cast("tdl_process *", nil)
local STDIO = {
  inherit = const.TDL_STDIO_INHERIT, null = const.TDL_STDIO_NULL, pipe = const.TDL_STDIO_PIPE, out = const.TDL_STDIO_OUT,
}

local SIGNALS = {
  HUP = 1, INT = 2, QUIT = 3, ABRT = 6, KILL = 9, USR1 = 10, SEGV = 11, USR2 = 12, PIPE = 13, ALRM = 14, TERM = 15,
  CHLD = 17, CONT = 18, STOP = 19, TSTP = 20, TTIN = 21, TTOU = 22, WINCH = 28,
}

local function signal_number(signal)
  local number = type(signal) == "number" and signal
    or type(signal) == "string" and SIGNALS[(signal:upper():gsub("^SIG", ""))]
  if not number then misuse("no such signal: " .. tostring(signal)) end
  return number
end

--- A child, from treadle.command.
---@class treadle.Process
---@field ptr ffi.cdata* tdl_process, NULL when closed
---@field stdin treadle.Conn|nil what it reads, with stdin = "pipe"
---@field stdout treadle.Conn|nil
---@field stderr treadle.Conn|nil
local Process = {}
Process.__index = Process
class.public(Process, "process")

--- For treadle.select: fires when it has ended; the value is the status. (wait tells more, and does not wait then.)
---@return treadle.Op
function Process:wait_op() return { kind = "wait", wait = self.wait, object = self } end

--- Waits until it has ended.
---@param timeout number|nil seconds; with "timeout" it runs on
---@return integer|nil status what it returned; 128 and the signal's number when one ended it
---@return integer|string|nil signal the number of the signal that ended it; or the error: "timeout", "cancelled", "closed"
function Process:wait(timeout)
  local rc = hold(C.tdl_process_wait_start(state.host, state.id, self.ptr, deadline(timeout)))
  if rc < 0 then
    if rc == const.TDL_EINVAL and self.ptr == NO_PROCESS and state.id ~= park.NO_TASK then rc = const.TDL_ECLOSED end
    return nil, fail(rc, self)
  end
  local signal = tonumber(state.outcomes[state.cur].extra)
  return rc, signal ~= 0 and signal or nil
end

--- Sends it (or its group) a signal.
---@param signal integer|string|nil a number, or "TERM", "KILL", "USR1" …; "TERM" when nil
---@return true|nil done
---@return string|nil err "no such process": it has ended; "closed"
function Process:kill(signal)
  if self.ptr == NO_PROCESS then return nil, "closed" end
  local rc = C.tdl_process_kill(self.ptr, signal_number(signal or "TERM"))
  if rc < 0 then return nil, fail(rc) end
  return true
end

--- Its number; nil when closed.
---@return integer|nil
function Process:pid()
  return self.ptr ~= NO_PROCESS and tonumber(C.tdl_process_pid(self.ptr)) or nil
end

--- Closes its pipes and gives the handle back. It runs on (unless it was started with kill), and is never a zombie.
---@return true|nil done
---@return string|nil err "closed" the second time
function Process:close()
  local ptr = self.ptr
  if ptr == NO_PROCESS then return nil, "closed" end
  self.ptr = NO_PROCESS
  for _, name in ipairs { "stdin", "stdout", "stderr" } do
    if self[name] then self[name]:close() end
  end
  C.tdl_process_free(ffi.gc(ptr, nil))
  return true
end

function Process:__tostring()
  local pid = self:pid()
  return pid and "process " .. pid or "process (closed)"
end

--- Array of C strings; the second result keeps them alive.
local function strings(list, what)
  local array = ffi.new("const char *[?]", #list + 1)
  for i, text in ipairs(list) do
    if type(text) ~= "string" or text:find("\0", 1, true) then
      misuse(("%s must be strings without zeros, not %s"):format(what, tostring(text)))
    end
    array[i - 1] = text
  end
  array[#list] = nil
  return array, list
end

local function stdio(how, name)
  if how == nil then how = "inherit" end
  if type(how) == "number" and how % 1 == 0 and how > 0 and how < 2 ^ 31 then return how end
  if how == "out" and name ~= "stderr" then misuse 'only stderr can be "out"' end
  return STDIO[how] or misuse(('%s is "inherit", "null", "pipe" or a descriptor, not %s'):format(name, tostring(how)))
end

---@class treadle.CommandOptions
---@field stdin "inherit"|"null"|"pipe"|integer|nil "inherit" when nil; a number: a descriptor, which stays the program's
---@field stdout "inherit"|"null"|"pipe"|integer|nil
---@field stderr "inherit"|"null"|"pipe"|"out"|integer|nil "out": where the output goes
---@field cwd string|nil where it starts
---@field env table<string, string>|nil its whole environment; the program's when nil
---@field group boolean|nil a process group of its own, which kill means then
---@field session boolean|nil a session of its own, without a terminal
---@field kill boolean|nil it is killed when the object is closed or collected

--- Starts a program.  It has the descriptors that the options say and no other.
---@param argv string[] its name (found in PATH unless it has a slash) and arguments
---@param options treadle.CommandOptions|nil
---@return treadle.Process|nil process
---@return string|nil err "no such file or directory", "permission denied", …
---@return string|nil text with an error: the same with the name
function M.command(argv, options)
  if type(argv) ~= "table" or type(argv[1]) ~= "string" then misuse "command expects a list of strings" end
  errors.check_options(options, "command", "stdin stdout stderr cwd env group session kill ")
  options = options or {}
  park.need_run()
  local o = ffi.new "tdl_process_options"
  o.size = ffi.sizeof(o)
  o.flags = (options.group and const.TDL_PROCESS_GROUP or 0) + (options.session and const.TDL_PROCESS_SESSION or 0)
    + (options.kill and const.TDL_PROCESS_KILL or 0)
  o["in"], o.out, o.err = stdio(options.stdin, "stdin"), stdio(options.stdout, "stdout"), stdio(options.stderr, "stderr")
  local cwd, env, list = options.cwd and no_zero(options.cwd, "cwd"), nil, {}
  if options.env then
    for name, text in pairs(options.env) do list[#list + 1] = name .. "=" .. text end
    env = strings(list, "the environment")
    o.env = env
  end
  if cwd then o.cwd = cwd end
  local args = strings(argv, "arguments")
  local out = ffi.new "tdl_process *[1]"
  local rc = C.tdl_process_start(argv[1], args, o, out)
  if rc < 0 then
    local err = fail(rc, { cwd, env, list }) -- o points to them
    return nil, err, ("start %s: %s"):format(argv[1], err)
  end
  local self = setmetatable({ ptr = ffi.gc(out[0], C.tdl_process_free) }, Process)
  for i, name in ipairs { "stdin", "stdout", "stderr" } do
    local pipe = C.tdl_process_pipe(self.ptr, i - 1)
    if pipe ~= nil then self[name] = conn.wrap(pipe) end
  end
  return self
end

-- -- Signals -------------------------------------------------------------------

local function stop(chan)
  C.tdl_signal_stop(chan, 0)
  C.tdl_chan_free(chan)
end

--- Signals as they come, from treadle.signals.
---@class treadle.Signals
---@field chan treadle.SharedChan of their numbers, for select
local Signals = {}
Signals.__index = Signals
class.public(Signals, "signals")

--- The next signal's number; waits for it.
---@param timeout number|nil seconds
---@return integer|nil signal
---@return string|nil err "timeout", "cancelled", "closed"
function Signals:recv(timeout)
  local number, ok, err = self.chan:recv(timeout)
  if ok then return number end
  return nil, err or "closed"
end

--- For a for loop: their numbers, until it is closed.
---@return fun(): integer|nil
function Signals:iter() return self.chan:iter() end

--- No more of them: what the program did at these signals before is so again.
---@return true|nil done
---@return string|nil err "closed" the second time
function Signals:close()
  if self.closed then return nil, "closed" end
  self.closed = true
  stop(ffi.gc(self.holder, nil))
  self.holder = nil
  self.chan:close()
  return true
end

--- From now on these signals come here, and do nothing else.  One that comes while
--- 16 are waiting is lost.
---@param ... integer|string numbers, or "INT", "TERM", "HUP", "USR1" …
---@return treadle.Signals
function M.signals(...)
  if select("#", ...) == 0 then misuse "signals expects the names of signals" end
  local chan = shared.shared_chan(16)
  -- a table has no finalizer in this Lua: what is collected is a holder of the channel
  local self = setmetatable({ chan = chan, closed = false, holder = ffi.gc(C.tdl_chan_ref(chan.ptr), stop) }, Signals)
  for _, signal in ipairs { ... } do
    local rc = C.tdl_signal_notify(self.chan.ptr, signal_number(signal))
    if rc < 0 then
      self:close()
      if rc == const.TDL_EINVAL then misuse("this signal cannot be caught: " .. tostring(signal)) end
      error("treadle: signals: " .. errors.text[rc], 2)
    end
  end
  return self
end

--- Ignores a signal from now on.
---@param signal integer|string
---@return true
function M.ignore_signal(signal)
  if C.tdl_signal_ignore(signal_number(signal)) < 0 then misuse("this signal cannot be ignored: " .. tostring(signal)) end
  return true
end

--- A signal does again what it did before it was ignored or watched.
---@param signal integer|string
---@return true
function M.reset_signal(signal)
  if C.tdl_signal_reset(signal_number(signal)) < 0 then misuse("this signal cannot be reset: " .. tostring(signal)) end
  return true
end

-- -- Changes of files -----------------------------------------------------------

local NO_WATCH = ffi.cast("tdl_watch *", nil)
local NAME = 4096

--- Changes of a file or of a directory's entries, from treadle.watch.
---@class treadle.Watch
---@field ptr ffi.cdata* tdl_watch, NULL when closed
local Watch = {}
Watch.__index = Watch
class.public(Watch, "watch")

local function kind_of(what)
  if bit.band(what, const.TDL_WATCH_LOST) ~= 0 then return "lost" end
  return bit.band(what, const.TDL_WATCH_RENAME) ~= 0 and "rename" or "change"
end

--- The next change; waits for it.
---@param timeout number|nil seconds
---@return "rename"|"change"|"lost"|nil kind "rename": it came, went or has another name; "lost": some are not told
---@return string|nil name of the entry; or the error: "timeout", "cancelled", "closed"
function Watch:next(timeout)
  local buf = ffi.new("char[?]", NAME)
  local rc = hold(C.tdl_watch_next_start(state.host, state.id, self.ptr, buf, NAME, deadline(timeout)))
  if rc < 0 then
    if rc == const.TDL_EINVAL and self.ptr == NO_WATCH and state.id ~= park.NO_TASK then rc = const.TDL_ECLOSED end
    return nil, fail(rc, buf)
  end
  return kind_of(rc), ffi.string(buf)
end

--- For a for loop: kind and name of each change, until it is closed.
---@return fun(): string|nil, string|nil
function Watch:iter()
  return function()
    local kind, name = self:next()
    if kind then return kind, name end
  end
end

--- Closes it. Goroutines that wait for it, and every later call, get nil, "closed".
---@return true|nil done
---@return string|nil err "closed" the second time
function Watch:close()
  local ptr = self.ptr
  if ptr == NO_WATCH then return nil, "closed" end
  self.ptr = NO_WATCH
  C.tdl_watch_free(ffi.gc(ptr, nil))
  return true
end

--- Watches a file, or the entries of a directory (not of those below it).
---@param path string
---@return treadle.Watch|nil watch
---@return string|nil err "no such file or directory", "no space left" (the system's limit of watches), …
---@return string|nil text with an error: the same with the path
function M.watch(path)
  local rc = hold(C.tdl_watch_open_start(state.host, state.id, no_zero(path, "the path"), const.TDL_FOREVER))
  if rc < 0 then
    local err = fail(rc)
    return nil, err, ("watch %s: %s"):format(path, err)
  end
  local ptr = ffi.cast("tdl_watch *", state.outcomes[state.cur].val.u.p)
  return setmetatable({ ptr = ffi.gc(ptr, C.tdl_watch_free) }, Watch)
end

-- -- Terminals -------------------------------------------------------------------

local tty = {}
M.tty = tty

--- Is the descriptor a terminal?
---@param fd integer
---@return boolean
function tty.is(fd) return C.tdl_tty_is(fd) == 1 end

--- Its size; signals "WINCH" tell when that changes.
---@param fd integer
---@return integer|nil columns
---@return integer|string|nil rows or the error: "not a terminal"
function tty.size(fd)
  local size = ffi.new "int[2]"
  local rc = C.tdl_tty_size(fd, size, size + 1)
  if rc < 0 then return nil, errors.text[rc] end
  return size[0], size[1]
end

--- Raw mode on, or back to what it was, which the end of the program sees to as well.
---@param fd integer
---@param on boolean
---@return true|nil done
---@return string|nil err "not a terminal"
function tty.raw(fd, on)
  local rc = C.tdl_tty_raw(fd, on and 1 or 0)
  if rc < 0 then return nil, errors.text[rc] end
  return true
end

return M
