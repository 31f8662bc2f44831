-- A chat room: for each client a reader goroutine, a writer goroutine and a
-- channel between the room and the writer.  Try it with `nc 127.0.0.1 7000`.
-- Usage: luajit chat.lua [host:port [idle_seconds]]     default 127.0.0.1:7000 300
local treadle = require "treadle"
local serve = dofile((arg[0]:match "^.*/" or "./") .. "server.lua")

local MAX_LINE, MAX_NICK = 1024, 32
local OUTBOX = 256 -- messages that a client may lag behind

local idle = tonumber(arg[2] or 300)
if not (idle and idle > 0 and idle < 1e9) then
  io.stderr:write("usage: chat.lua [host:port [idle_seconds]]\n")
  os.exit(2)
end

-- The room -----------------------------------------------------------------------

local members = {} -- client -> true

--- Hands text to everybody but `from`, and waits for nobody: who has not taken
--- OUTBOX messages is cut off, which ends its reader.
local function tell_others(from, text)
  for client in pairs(members) do
    if client ~= from and not treadle.try_select { client.outbox:send_op(text) } then client.conn:close() end
  end
end

-- Writing ------------------------------------------------------------------------

--- Sends what comes through the outbox, several messages at once when they are
--- there, until the outbox is closed and empty.
local function writer(client)
  local outbox = client.outbox
  for text in outbox:iter() do
    local batch = { text }
    for i = 2, math.min(outbox:len() + 1, 64) do batch[i] = outbox:recv() end
    if not client.conn:write(batch) then client.conn:close() end -- wakes the reader
  end
end

-- Reading ------------------------------------------------------------------------

--- Asks until there is a name; nil and why there is none.
local function ask_name(conn)
  local line, err
  repeat
    local sent
    sent, err = conn:write "name?\n"
    if not sent then return nil, err end
    line, err = conn:read("l", MAX_LINE)
  until not line or (#line > 0 and #line <= MAX_NICK)
  return line, err
end

--- Passes lines on until the client leaves; why it did.
local function converse(client)
  local line, err = client.conn:read("l", MAX_LINE)
  while line and line ~= "/quit" do
    tell_others(client, client.nick .. ": " .. line .. "\n")
    line, err = client.conn:read("l", MAX_LINE)
  end
  return err
end

serve(arg[1] or "127.0.0.1:7000", function(conn)
  conn:settimeout(idle)
  local client = { conn = conn, outbox = treadle.chan(OUTBOX) }
  local writing = treadle.go(writer, client)
  local nick, why = ask_name(conn)
  if nick then
    client.nick = nick
    tell_others(client, "* " .. nick .. " joined\n")
    members[client] = true
    why = converse(client)
    members[client] = nil
    tell_others(client, "* " .. nick .. " left\n")
  end
  local last = why == "timeout" and "* idle, bye\n" or why == "too long" and "* line too long, bye\n"
  if last then treadle.try_select { client.outbox:send_op(last) } end
  conn:settimeout(5)
  client.outbox:close() -- the writer sends what is left, and ends
  writing:join()
end)
