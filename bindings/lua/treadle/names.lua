-- SPDX-License-Identifier: MIT
-- Addresses with a host's name in them, where the core takes numbers only: to listen at,
-- and those of datagrams.  (Dialling looks names up itself.)

local ffi = require "ffi"
local library = require "treadle.library"
local park = require "treadle.park"
local C, const = library.C, library.const

local state, hold = park.state, park.hold

local MOST = 32
local IPV4 = 2 -- AF_INET

local M = {}

--- The address to use instead of one whose host is a name: the first of IPv4 that the name
--- has, or else the first.  Waits for the lookup.
---@param network string "tcp", "udp", "tcp4", …
---@param address string
---@param rc integer what the core said of the address
---@return string|nil address with a number
---@return integer rc otherwise: what there is to say now
function M.numeric(network, address, rc)
  local host, port = address:match "^([^%[%]:%z]+):(%d+)$"
  port = tonumber(port)
  if rc ~= const.TDL_EADDRESS or not host or port > 65535 or network:find "^unix" then return nil, rc end
  local found, text = ffi.new("tdl_addr[?]", MOST), ffi.new "char[128]"
  local n = hold(C.tdl_lookup_start(state.host, state.id, network, host, port, found, MOST, const.TDL_FOREVER))
  if n <= 0 then return nil, n < 0 and n or rc end
  local best = 0
  for i = n - 1, 0, -1 do
    if ffi.cast("uint16_t *", found[i].sockaddr)[0] == IPV4 then best = i end
  end
  C.tdl_addr_format(found + best, text, 128)
  return ffi.string(text), 0
end

return M
