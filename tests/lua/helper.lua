-- What the specs share: tests that run in a goroutine, programs in a process of
-- their own, and what the kernel knows of this process.
local ffi = require "ffi"
local treadle = require "treadle"

ffi.cdef [[
unsigned int alarm(unsigned int seconds);
int fcntl(int fd, int command, ...);
]]

local M = { root = os.getenv "TREADLE_ROOT" or "." }

local LIMIT = 40 -- seconds; a test that hangs ends the whole run by SIGALRM

--- Wraps a function for busted's it: it runs as the main function of treadle.run.
---@param f function
---@param options table|nil
---@return function
function M.inside(f, options)
  return function()
    ffi.C.alarm(LIMIT)
    local ok, err = pcall(treadle.run, f, options)
    ffi.C.alarm(0) -- also after a failure: or it ends the run in some later test
    if not ok then error(err, 0) end
  end
end

--- Checks that f raises an error whose text, position included, matches.
--- (busted's own error_matches takes the position away.)
---@param f function
---@param pattern string
function M.raises(f, pattern)
  local ok, err = pcall(f)
  assert(not ok, "no error was raised")
  assert(tostring(err):find(pattern), ("the error %q does not match %q"):format(tostring(err), pattern))
end

local function quote(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

--- Runs a shell command. Returns its output (both streams) and its exit status.
---@param command string
---@return string output
---@return integer status
function M.shell(command)
  local pipe = assert(io.popen("( " .. command .. " ) 2>&1; echo \"status $?\""))
  local out = pipe:read "*a"
  pipe:close()
  local text, status = out:match "^(.*)status (%d+)\n$"
  return text, tonumber(status)
end

--- Runs a Lua program in a LuaJIT of its own.
---@param program string
---@param options string|nil of luajit, or VARIABLE=value before it
---@return string output
---@return integer status
function M.script(program, options)
  local path = os.tmpname()
  local file = assert(io.open(path, "w"))
  file:write(program)
  file:close()
  local out, status = M.shell(("timeout 30 env %s luajit %s %s"):format(
    options and options:match "^[%u_]+=" and options or "",
    options and not options:match "^[%u_]+=" and options or "", quote(path)))
  os.remove(path)
  return out, status
end

--- Open descriptors of this process.  Asked without opening any, and without a
--- child that might see the parent in the middle of something.
---@return integer number
---@return string list
function M.descriptors()
  local list = {}
  for fd = 0, 4095 do
    if ffi.C.fcntl(fd, 1) >= 0 then list[#list + 1] = fd end -- F_GETFD
  end
  return #list, table.concat(list, " ")
end

--- Resident memory of this process in KiB.
---@return integer
function M.resident()
  for line in io.lines "/proc/self/status" do
    local kib = line:match "^VmRSS:%s*(%d+)"
    if kib then return tonumber(kib) end
  end
end

--- A listener and both ends of a connection to it.
---@return treadle.Conn dialled
---@return treadle.Conn accepted
function M.pair(network)
  local listener = assert(treadle.listen(network or "tcp", network == "unix" and "@treadle-spec" or "127.0.0.1:0"))
  local accepting = treadle.go(function() return listener:accept() end)
  local near = assert(treadle.dial(network or "tcp", listener:address()))
  local far = assert(accepting:join())
  listener:close()
  return near, far
end

--- Collects twice, so that finalizers have run.
function M.collect()
  collectgarbage()
  collectgarbage()
end

return M
