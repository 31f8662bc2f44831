-- SPDX-License-Identifier: MIT
-- User coroutines inside a goroutine: when one waits, the whole goroutine waits.
--
-- While a run is on, coroutine.resume and coroutine.wrap are the two functions
-- below.  They see the private SENTINEL come out of a coroutine, hand it on to
-- the scheduler, and bring the result back in; the program sees only its own
-- values.  Functions taken from `coroutine` before the run are the plain ones: a
-- coroutine that is driven by them must not wait.
--
-- Invariants: state.frame is that of the innermost coroutine that was resumed here
-- (see frame.lua).  A coroutine that waits is in `waiting`, and only the frame that
-- waits for it resumes it.

local park = require "treadle.park"
local frame = require "treadle.frame"

local SENTINEL, state, leave = park.SENTINEL, park.state, park.leave
local frame_of = frame.of

local raw_resume, raw_wrap = coroutine.resume, coroutine.wrap
local create = coroutine.create

local waiting = setmetatable({}, { __mode = "k" })

local function through(co, outer, ok, value, ...)
  state.frame = outer
  if value == SENTINEL and ok then
    waiting[co] = true
    local result = leave()
    waiting[co] = nil
    state.frame = frame_of(co)
    return through(co, outer, raw_resume(co, result))
  end
  return ok, value, ...
end

local function resume(co, ...)
  if waiting[co] then return false, "cannot resume non-suspended coroutine" end
  if type(co) ~= "thread" then return raw_resume(co, ...) end
  local outer = state.frame
  state.frame = frame_of(co)
  return through(co, outer, raw_resume(co, ...))
end

local function unwrap(ok, ...)
  if ok then return ... end
  error((...), 0)
end

local function wrap(f)
  local co = create(f)
  return function(...) return unwrap(resume(co, ...)) end
end

local M = {}

function M.install()
  coroutine.resume, coroutine.wrap = resume, wrap
end

function M.restore()
  coroutine.resume, coroutine.wrap = raw_resume, raw_wrap
end

return M
