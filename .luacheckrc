-- Settings of luacheck for the Lua sources.
std = "luajit"
max_line_length = 140
files["tests/lua/**/*_spec.lua"] = { std = "+busted" }
files["bindings/lua/treadle/interpose.lua"] = { globals = { "coroutine" } }
