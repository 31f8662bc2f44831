-- SPDX-License-Identifier: MIT
-- luacheck: globals vim
-- Neovim talks to a server while the editor goes on.  In Neovim:
--
--     :lua package.path = "…/bindings/lua/?.lua;…/bindings/lua/?/init.lua;" .. package.path
--     :luafile examples/lua/nvim_client.lua
--     :Ask 127.0.0.1:7000 first second third
--
-- sends each word as a line, and puts each answer into the current buffer when
-- it comes.  The goroutine waits; the editor does not.
local treadle = require "treadle"

require("treadle.luv").attach(vim.loop, {
  on_error = function(_, err)
    vim.schedule(function() vim.notify(tostring(err), vim.log.levels.ERROR) end)
  end,
})

local function ask(address, words, buffer)
  local conn, err = treadle.dial("tcp", address, { timeout = 5 })
  if not conn then error(("no connection to %s: %s"):format(address, err), 0) end
  conn:settimeout(5)
  local lines = conn:lines()
  for _, word in ipairs(words) do
    assert(conn:write(word .. "\n"))
    local answer = lines() or "(no answer)"
    -- a goroutine runs between two callbacks of the loop, where the editor's own
    -- functions may not be called
    vim.schedule(function() vim.api.nvim_buf_set_lines(buffer, -1, -1, true, { answer }) end)
  end
  conn:close()
end

vim.api.nvim_create_user_command("Ask", function(command)
  local words = vim.deepcopy(command.fargs)
  local address = table.remove(words, 1)
  treadle.go(ask, address, words, vim.api.nvim_get_current_buf())
end, { nargs = "+" })
