-- Readers and writers: copies, what puts them together, buffered ones, scanners, the pipe.
local treadle = require "treadle"
local helper = require "helper"
local inside, raises, pair = helper.inside, helper.raises, helper.pair
local io_ = treadle.io

--- A reader of a text in pieces of n bytes; errors: by position, once each.
local function pieces(text, n, errors)
  local at = 0
  return {
    read_some = function(_, max)
      local err = errors and errors[at]
      if err then
        errors[at] = nil
        return nil, err
      end
      local m = math.min(n, max or n, #text - at)
      for stop in pairs(errors or {}) do
        if stop > at then m = math.min(m, stop - at) end
      end
      if m == 0 then return nil, "closed" end
      at = at + m
      return text:sub(at - m + 1, at)
    end,
  }
end

--- A writer with so much room, and then an error.
local function sink(room, err)
  local to = { got = "", calls = 0 }
  function to:write(data)
    self.calls = self.calls + 1
    local m = math.min(#data, room - #self.got)
    self.got = self.got .. data:sub(1, m)
    if m == #data then return m end
    return nil, err, m
  end
  return to
end

local function temporary(text)
  local f = assert(treadle.fs.mkstemp "/tmp/treadle-io-XXXXXX")
  os.remove(f.path)
  f:write(text)
  f:seek("set", 0)
  return f
end

describe("copying", function()
  it("E10: says how much went out, and whose error ended it", inside(function()
    local to = sink(100)
    assert.equal(10, io_.copy(to, pieces("0123456789", 3)))
    assert.equal("0123456789", to.got)
    assert.same({ nil, "no space left", 5 }, { io_.copy(sink(5, "no space left"), pieces("0123456789", 3)) })
    local from = pieces("0123456789", 3, { [4] = "timeout" })
    to = sink(100)
    assert.same({ nil, "timeout", 4 }, { io_.copy(to, from) })
    assert.equal(2, io_.copy(to, from, 2))
    assert.equal(0, io_.copy(to, from, 0))
    assert.equal(4, io_.copy(to, from))
    assert.equal("0123456789", to.got)
    assert.equal(9, io_.copy(io_.discard, io_.text "discarded"))
  end))

  it("D30 D31: connections, files, texts, in every combination", inside(function()
    local text = ("0123456789"):rep(3000)
    for _, source in ipairs { "tcp", "unix", "pipe", "file", "text", "limit" } do
      for _, target in ipairs { "tcp", "unix", "pipe", "file", "collector", "buffered" } do
        local near, from, to, far, reader
        if source == "file" then
          from = temporary(text)
        elseif source == "text" or source == "limit" then
          from = io_.text(source == "text" and text or text .. "more")
          if source == "limit" then from = io_.limit(from, #text) end
        else
          if source == "pipe" then
            near, from = treadle.pipe(1024)
          else
            near, from = pair(source)
          end
          treadle.go(function()
            near:write(text)
            near:shutdown "write"
          end)
        end
        if target == "file" then
          to = temporary ""
        elseif target == "collector" then
          to = io_.collector()
        else
          if target == "pipe" then
            to, far = treadle.pipe(1024)
          else
            to, far = pair(target == "buffered" and "tcp" or target)
          end
          reader = treadle.go(function() return far:read(#text) end)
          if target == "buffered" then to = io_.buffered_writer(to, 100) end
        end
        assert.equal(#text, io_.copy(to, from))
        if target == "buffered" then assert.is_true(to:close()) end
        if target == "file" then
          to:seek("set", 0)
          assert.equal(text, io_.read_all(to))
        elseif target == "collector" then
          assert.equal(text, to:text())
        else
          assert.equal(text, reader:join())
        end
      end
    end
  end))

  it("F5: refuses what is no reader, and a file onto itself; what was closed is an error, no end", inside(function()
    raises(function() io_.copy({}, io_.text "x") end, "copy expects a writer")
    raises(function() io_.copy(io_.discard, io_.discard) end, "copy expects a reader")
    raises(function() io_.copy(io_.discard, io_.text "x", -1) end, "number of bytes to copy")
    raises(function() io_.limit(io_.text "x", 0.5) end, "the limit")
    raises(function() io_.multi_reader(io_.text "x", 1) end, "expects a reader")
    raises(function() io_.text(1) end, "expects a string")
    local f = temporary "x"
    raises(function() io_.copy(f, f) end, "onto itself")
    f:close()
    assert.same({ nil, "closed", 0 }, { io_.copy(io_.discard, f) })
    local near, far = pair()
    far:close()
    assert.same({ nil, "closed", 0 }, { io_.copy(io_.discard, far) })
    assert.same({ nil, "closed", 0 }, { io_.copy(io_.discard, io_.limit(far, 5)) })
    assert.same({ nil, "closed", 0 }, { io_.copy(io_.discard, io_.multi_reader(io_.text "", far)) })
    near:close()
  end))
end)

describe("readers and writers", function()
  it("E10: a limit, a tee, several", inside(function()
    local from = pieces("0123456789", 4)
    local limit = io_.limit(from, 6)
    assert.equal("012345", io_.read_all(limit))
    assert.equal(0, limit.left)
    assert.same({ nil, "closed" }, { limit:read_some() })
    assert.equal("6789", from:read_some())
    local log, out = sink(8, "no space left"), sink(100)
    local tee = io_.tee(pieces("to both of them", 5), log)
    assert.same({ nil, "no space left", 10 }, { io_.copy(out, tee) })
    assert.equal("to both ", log.got)
    assert.equal("to both of", out.got)
    local several = io_.multi_reader(pieces("one", 1), io_.text "+", pieces("two", 5, { [1] = "timeout" }))
    local a, b = sink(100), sink(100)
    assert.equal(2, io_.copy(a, several, 2))
    assert.same({ nil, "timeout", 3 }, { io_.copy(b, several) })
    assert.equal(2, io_.copy(b, several))
    assert.equal("on e+two", a.got .. " " .. b.got)
    a, b = sink(4, "broken pipe"), sink(100)
    local both = io_.multi_writer(a, b)
    assert.equal(3, both:write "abc")
    assert.same({ nil, "broken pipe", 1 }, { both:write "def" })
    assert.equal("abc", b.got)
  end))

  it("E10: read exactly, and all", inside(function()
    assert.equal("0123", io_.read_full(pieces("0123456789", 3), 4))
    assert.equal("", io_.read_full(pieces("", 3), 0))
    assert.same({ nil, "closed", "012" }, { io_.read_full(pieces("012", 2), 4) })
    assert.same({ nil, "timeout", "0" }, { io_.read_full(pieces("012", 2, { [1] = "timeout" }), 3) })
    assert.equal("012", io_.read_all(pieces("012", 2), 3))
    assert.same({ nil, "too long", "0123" }, { io_.read_all(pieces("012345", 2), 3) })
    assert.same({ nil, "timeout", "01" }, { io_.read_all(pieces("012", 5, { [2] = "timeout" })) })
  end))
end)

describe("a buffered writer", function()
  it("E10: gathers; its first error stays", inside(function()
    local to = sink(100)
    local w = io_.buffered_writer(to, 10)
    assert.equal(3, w:write "abc")
    assert.equal(3, w:write("d", 1, "f"))
    assert.equal(0, to.calls)
    assert.equal(6, w.buffered)
    assert.equal(6, w:write "ghijkl")
    assert.equal(1, to.calls)
    assert.is_true(w:flush())
    assert.equal("abcd1fghijkl", to.got)
    w:write "end"
    assert.is_true(w:close())
    assert.equal("abcd1fghijklend", to.got)
    to = sink(4, "broken pipe")
    w = io_.buffered_writer(to, 8)
    w:write "abcdef"
    assert.same({ nil, "broken pipe" }, { w:flush() })
    assert.equal(2, w.buffered)
    assert.same({ nil, "broken pipe", 0 }, { w:write "x" })
    assert.same({ nil, "broken pipe" }, { w:close() })
    assert.equal(1, to.calls)
    raises(function() io_.buffered_writer(to, 0) end, "the size")
    raises(function() w:write {} end, "expects strings")
  end))
end)

describe("a buffered reader", function()
  it("E10: peeks and has framed reads over any reader", inside(function()
    for n = 1, 7 do
      local r = io_.buffered_reader(pieces("head\r\n\r\nline\r\nanother\nten bytes.rest", n))
      assert.equal("he", r:peek(2))
      assert.equal("head\r\n\r\n", r:read_until "\r\n\r\n")
      assert.equal("line", r:read "l")
      assert.equal("another\n", r:read "L")
      assert.equal("ten bytes.", r:read(10))
      assert.equal("rest", r:read "l")
      assert.same({ nil, "closed", "" }, { r:read "l" })
      assert.same({ nil, "closed" }, { r:peek(1) })
      r = io_.buffered_reader(pieces("much too long\nnext\nmore", n))
      assert.same({ nil, "too long", "much " }, { r:read("l", 5) })
      assert.equal("too long", r:read("l", 9))
      local to = sink(100)
      assert.equal(9, io_.copy(to, r))
      assert.equal("next\nmore", to.got)
      r = io_.buffered_reader(pieces("one\ntwo", n, { [5] = "timeout" }))
      assert.equal("one", r:read "l")
      assert.same({ nil, "timeout", "t" }, { r:read "l" })
      assert.equal("wo", r:read "a")
    end
    raises(function() io_.buffered_reader(io_.text ""):read "x" end, "read expects")
  end))
end)

describe("a scanner", function()
  local function all(scanner)
    local out = {}
    for piece, err in scanner:iter() do out[#out + 1] = err and piece .. "!" or piece end
    return out
  end

  it("E10: lines, and pieces between delimiters; what is too long is an error, and the next one follows", inside(function()
    for n = 1, 9 do
      local function scan(text, options) return all(io_.scanner(pieces(text, n), options)) end
      assert.same({ "one", "two", "", "", "last\r" }, scan "one\ntwo\r\n\n\r\nlast\r")
      assert.same({ "a", "b", "-c", "" }, scan("a--b---c----", { delimiter = "--" }))
      assert.same({ "short", "much lon!", "seven..", "eight...!", "last too!" },
        scan("short\nmuch longer than it may be\nseven..\neight...\nlast too long", { limit = 8 }))
      assert.same({ "abcdef!", "ij", "k" }, scan("abcdefgh==ij==k", { delimiter = "==", limit = 6 }))
    end
    raises(function() io_.scanner(io_.text "", { delimiter = "" }) end, "delimiter")
    raises(function() io_.scanner(io_.text "", { delimiter = "abc", limit = 2 }) end, "delimiter")
    raises(function() io_.scanner(io_.text "", { limit = 0 }) end, "limit")
  end))

  it("E10: over a connection goes on after a timeout and an oversized line", inside(function()
    local near, far = pair()
    local s = io_.scanner(far, { limit = 1000 })
    far:settimeout(0.005)
    near:write "half"
    assert.same({ nil, "timeout" }, { s:next() })
    far:settimeout(nil)
    near:write " a line\n"
    assert.equal("half a line", s:next())
    near:write(("x"):rep(5000))
    assert.same({ nil, "too long", ("x"):rep(1000) }, { s:next() })
    near:write "\nstill here\n"
    assert.equal("still here", s:next())
    near:close()
    assert.same({ nil, "closed" }, { s:next() })
    far:close()
  end))
end)

describe("an io pipe", function()
  it("E10: hands over without a buffer, and tells each side why the other closed", inside(function()
    local r, w = io_.pipe()
    local writer = treadle.go(function() return w:write "hello" end)
    assert.equal("hel", r:read(3))
    assert.equal("lo", r:read(2))
    assert.equal(5, writer:join())
    assert.same({ nil, "broken pipe", 0 }, { r:write "x" })
    treadle.go(function() w:close_with "input/output error" end)
    assert.same({ nil, "input/output error", "" }, { r:read "l" })
    assert.same({ nil, "closed" }, { w:close_with "timeout" })
    assert.same({ nil, "closed", 0 }, { w:write "x" })
    r:close()
    r, w = io_.pipe()
    local reader = treadle.go(function()
      r:read(2)
      r:close_with "timeout"
    end)
    assert.same({ nil, "timeout", 2 }, { w:write "hello" })
    reader:join()
    raises(function() w:close_with "no such text" end, "expects an error's text")
    raises(function() w:close_with "cancelled" end, "cannot say")
    assert.is_true(w:close_with())
    local near, far = pair()
    assert.same({ nil, "not supported" }, { near:close_with "timeout" })
    near:close()
    far:close()
  end))
end)
