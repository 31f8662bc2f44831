/* SPDX-License-Identifier: MIT */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdio.h>

#include "ring.h"

static void set_address(lua_State *L, const char *name, void *p) {
    lua_pushnumber(L, (lua_Number)(uintptr_t)p); /* user addresses have 47 bits */
    lua_setglobal(L, name);
}

int lua_station(const station *s) {
    lua_State *L = luaL_newstate();
    if (L == NULL) return 1;
    luaL_openlibs(L);
    lua_getglobal(L, "package");
    lua_pushstring(L, RING_LUA "/?.lua;" RING_LUA "/?/init.lua");
    lua_setfield(L, -2, "path");
    lua_pop(L, 1);
    set_address(L, "in_address", s->in);
    set_address(L, "out_address", s->out);
    set_address(L, "ready_address", s->ready);
    lua_pushnumber(L, (lua_Number)s->mark);
    lua_setglobal(L, "mark");
    int failed = luaL_dofile(L, RING_SCRIPTS "/station.lua");
    if (failed) fprintf(stderr, "station.lua: %s\n", lua_tostring(L, -1));
    lua_close(L);
    return failed;
}
