-- Simulation: the virtual clock, the order by seed, ends, misuse.
local treadle = require "treadle"
local sim = require "treadle.sim"
local helper = require "helper"
local raises = helper.raises

describe("sim", function()
  it("G1: moves the clock by exactly what is slept, and takes no time", function()
    local began = os.clock()
    local report = sim.run(function()
      local at = treadle.now()
      for _ = 1, 1000 do assert(treadle.sleep(3600)) end
      assert(treadle.now() - at == 3600 * 1000)
    end)
    assert.equal(3600 * 1000, report.time)
    assert.equal(1, report.runs)
    assert.is_true(os.clock() - began < 5)
    assert.is_true(treadle.now() < 946684800) -- outside, the machine's clock again
  end)

  it("G5: repeats a run by its seed", function()
    local function program(log)
      return function()
        for i = 1, 5 do
          treadle.go(function()
            for _ = 1, 3 do
              log[#log + 1] = i
              treadle.yield()
            end
          end)
        end
        treadle.sleep(1)
      end
    end
    local logs, hashes = {}, {}
    for round = 1, 3 do
      for seed = 1, 10 do
        local log = {}
        local report = sim.run(program(log), { seed = seed })
        local text = table.concat(log, " ")
        if round == 1 then logs[seed], hashes[seed] = text, report.hash end
        assert.equal(logs[seed], text)
        assert.equal(hashes[seed], report.hash)
        assert.equal(seed, report.seed)
      end
    end
    local different = {}
    for seed = 1, 10 do different[logs[seed]] = true end
    local n = 0
    for _ in pairs(different) do n = n + 1 end
    assert.is_true(n > 5)
  end)

  it("G2: waits until the others wait", function()
    sim.run(function()
      local ch, stage = treadle.chan(), 0
      treadle.go(function()
        for i = 1, 3 do
          treadle.yield()
          stage = i
          ch:recv()
        end
      end)
      for i = 1, 3 do
        assert(sim.wait())
        assert(stage == i)
        assert(ch:send(i))
      end
    end, { seeds = 20 })
  end)

  it("G12: finds a fault within 100 seeds, and names the seed, which repeats it", function()
    local function racy()
      local late = treadle.chan(1)
      treadle.go(function()
        treadle.yield()
        late:send "late"
      end)
      treadle.yield()
      treadle.yield()
      if late:len() == 0 then error "not there yet" end
    end
    local ok, err = pcall(sim.run, racy, { seeds = 100 })
    assert.is_false(ok)
    local seed = tonumber(err:match "seed (%d+); TREADLE_SEED=%d+ repeats it")
    raises(function() sim.run(racy, { seed = seed }) end, "not there yet.*seed " .. seed)
  end)

  it("G6: says so when all wait for ever, or somebody spins", function()
    local out, status = helper.script [[
      local treadle, sim = require "treadle", require "treadle.sim"
      print(pcall(sim.run, function() treadle.chan():recv() end))
      print(pcall(sim.run, function() while treadle.yield() do end end, { max_steps = 1000 }))
      print(pcall(sim.run, function() while treadle.sleep(60) do end end, { max_time = 3600 }))
      sim.run(function() print "and on it goes" end)]]
    assert.equal(0, status)
    assert.is_truthy(out:find("false\ttreadle: all goroutines are asleep", 1, true))
    assert.is_truthy(out:find("more steps than it may", 1, true) or out:find("has reached its limit", 1, true))
    assert.is_truthy(out:find "and on it goes\n$")
  end)

  it("G13: refuses what cannot be", function()
    raises(function() sim.run() end, "expects a function")
    raises(function() sim.run(print, { strategy = "luck" }) end, "strategy must be")
    raises(function() sim.run(print, { seeds = -1 }) end, "must be a number")
    raises(function() sim.run(print, { seeds = 0 }) end, "seeds must be 1 or more")
    treadle.run(function()
      raises(function() sim.run(print) end, "sim.run inside run")
      raises(function() sim.wait() end, "sim.wait outside")
    end)
    sim.run(function()
      raises(function() sim.run(print) end, "sim.run inside run")
      local listener, err = treadle.listen("tcp", "127.0.0.1:0")
      assert(not listener and err:find "not supported", err)
    end)
  end)
end)
