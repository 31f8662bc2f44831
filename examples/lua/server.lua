-- What the three example servers share: listen, one goroutine per connection, a
-- clean end on SIGTERM or SIGINT (SIGQUIT writes all goroutines to stderr).
local ffi = require "ffi"
local treadle = require "treadle"
local watch = require "treadle.watch"

ffi.cdef [[
typedef struct { unsigned long bits[16]; } example_sigset;
int sigemptyset(example_sigset *set);
int sigaddset(example_sigset *set, int signal);
int sigprocmask(int how, const example_sigset *set, example_sigset *old);
int signalfd(int fd, const example_sigset *set, int flags);
long read(int fd, void *buffer, unsigned long n);
]]

local SIGINT, SIGQUIT, SIGTERM = 2, 3, 15
local SIG_BLOCK, SFD_CLOEXEC_NONBLOCK = 0, 0x80800
local SIGINFO_SIZE = 128 -- its first field is the number of the signal

--- From here on the signals come through a descriptor. Before the run, whose
--- threads inherit the mask.
local function catch_signals()
  local set = ffi.new "example_sigset"
  ffi.C.sigemptyset(set)
  for _, signal in ipairs { SIGINT, SIGQUIT, SIGTERM } do ffi.C.sigaddset(set, signal) end
  ffi.C.sigprocmask(SIG_BLOCK, set, nil)
  return ffi.C.signalfd(-1, set, SFD_CLOEXEC_NONBLOCK)
end

local function wait_for_the_end(signals)
  local info = ffi.new("uint32_t[?]", SIGINFO_SIZE / 4)
  while watch.wait(signals, "read") do
    if ffi.C.read(signals, info, SIGINFO_SIZE) == SIGINFO_SIZE then
      if info[0] ~= SIGQUIT then return end
      treadle.dump()
    end
  end
end

--- Runs the server until a signal ends it.
---@param address string
---@param serve fun(conn: treadle.Conn) called in a goroutine; the connection is closed when it returns
return function(address, serve)
  local signals = catch_signals()
  local function handle(conn)
    serve(conn)
    conn:close()
  end
  local failure = treadle.run(function()
    local listener, err = treadle.listen("tcp", address)
    if not listener then return ("listen on %s: %s"):format(address, err) end
    treadle.go(function()
      wait_for_the_end(signals)
      listener:close()
    end)
    print("listening on " .. listener:address())
    io.stdout:flush()
    for conn in listener:accepts() do treadle.go(handle, conn) end
  end)
  if failure then
    io.stderr:write(failure, "\n")
    os.exit(1)
  end
end
