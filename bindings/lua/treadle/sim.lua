-- SPDX-License-Identifier: MIT
-- Simulation, for tests:
--
--     local sim = require "treadle.sim"
--     sim.run(function() … end, { seeds = 1000 })
--
-- The core has the virtual clock and the choices; each run here is a treadle.run
-- between tdl_sim_begin and tdl_sim_end, and the garbage of one is collected
-- before the next begins.

local ffi = require "ffi"
local library = require "treadle.library"
local errors = require "treadle.errors"
local loop = require "treadle.loop"
local park = require "treadle.park"
local C, const = library.C, library.const

local state, hold, fail = park.state, park.hold, park.fail
local misuse = errors.misuse
local STRATEGIES = { random = const.TDL_SIM_RANDOM, pct = const.TDL_SIM_PCT }

local M = {}

---@class treadle.SimOptions
---@field seed integer|nil the first seed; 0
---@field seeds integer|nil how many seeds, one after the other; 1
---@field strategy "random"|"pct"|nil which of those that can go on does; "random"
---@field depth integer|nil of "pct": how many events must come in one order; 3
---@field max_steps integer|nil when to give up; 10 million
---@field max_time number|nil how many virtual seconds a run may take

---@class treadle.SimReport
---@field seed integer of the last run
---@field hash string of all that was chosen in it: equal for equal runs
---@field steps integer
---@field time number how many seconds its clock has moved
---@field runs integer

local function number(options, name, default)
  local value = options[name]
  if value == nil then return default end
  if type(value) ~= "number" or value < 0 or value ~= value then misuse(name .. " must be a number, 0 or more") end
  return value
end

local function one(f, seed, options)
  local report = ffi.new "tdl_sim_report"
  local given = ffi.new("tdl_sim_options", {
    size = ffi.sizeof "tdl_sim_options",
    seed = seed,
    strategy = options.strategy,
    depth = options.depth,
    max_steps = options.max_steps,
    max_ns = options.max_ns,
  })
  collectgarbage() -- what earlier runs have left is not to be freed in the middle of this one
  collectgarbage()
  local rc = C.tdl_sim_begin(given)
  if rc < 0 then error("treadle: sim cannot begin: " .. errors.text[rc], 0) end
  local fine, failure = xpcall(function() loop.run(f) end, function(err)
    return type(err) == "string" and err or debug.traceback(tostring(err), 2)
  end)
  rc = C.tdl_sim_end(report)
  if fine and rc < 0 then fine, failure = false, "treadle: " .. ffi.string(report.text) end
  return fine, failure, report
end

--- Runs f as treadle.run does, once for each seed, under a virtual clock that moves
--- only when every goroutine waits, and in an order that the seed decides.  A run
--- that fails (an error, a deadlock, too many steps) is raised with its seed, and
--- TREADLE_SEED in the environment repeats that one alone.
---@param f fun()
---@param options treadle.SimOptions|nil
---@return treadle.SimReport
function M.run(f, options)
  if type(f) ~= "function" then misuse("sim.run expects a function, got " .. type(f)) end
  errors.check_options(options, "sim.run", "seed seeds strategy depth max_steps max_time ")
  if state.running then misuse "sim.run inside run" end
  options = options or {}
  local strategy = STRATEGIES[options.strategy or "random"] or misuse 'strategy must be "random" or "pct"'
  local first, count = number(options, "seed", 0), number(options, "seeds", 1)
  local only = tonumber(os.getenv "TREADLE_SEED")
  if only then first, count = only, 1 end
  local settings = {
    strategy = strategy,
    depth = number(options, "depth", 0),
    max_steps = number(options, "max_steps", 0),
    max_ns = number(options, "max_time", 0) * 1e9,
  }
  local fine, failure, report
  for seed = first, first + count - 1 do
    fine, failure, report = one(f, seed, settings)
    if not fine then
      error(("%s\n(treadle.sim: seed %d; TREADLE_SEED=%d repeats it)"):format(failure, seed, seed), 0)
    end
  end
  if not report then misuse "seeds must be 1 or more" end
  return {
    seed = tonumber(report.seed),
    hash = ("%016x"):format(report.hash),
    steps = tonumber(report.steps),
    time = tonumber(report.ns) / 1e9,
    runs = count,
  }
end

--- Inside: waits until every other goroutine waits or has ended; no time passes.
---@return true|nil done
---@return string|nil err "cancelled"
function M.wait()
  local rc = hold(C.tdl_sim_wait_start(state.host, state.id))
  if rc == 0 then return true end
  if rc == const.TDL_EINVAL then misuse "sim.wait outside sim.run" end
  if rc == const.TDL_EBUSY then misuse "sim.wait while another goroutine is in it" end
  return nil, fail(rc)
end

return M
