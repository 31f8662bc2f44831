-- SPDX-License-Identifier: MIT
-- Files and directories.  Every call waits as any other: the work is done by
-- service threads of the core's.
--
-- Invariants: a file's `ptr` is NULL once it is closed, and its handle is freed
-- exactly once.  What a call writes to (buffers, a stat) is used again after the
-- wait, so that it lives as long.

local ffi = require "ffi"
local library = require "treadle.library"
local class = require "treadle.class"
local errors = require "treadle.errors"
local park = require "treadle.park"
local time = require "treadle.time"
local value = require "treadle.value"
local C, const = library.C, library.const

local state, hold, fail, spend = park.state, park.hold, park.fail, park.spend
local misuse, deadline = errors.misuse, time.deadline

local EINVAL, ECLOSED = const.TDL_EINVAL, const.TDL_ECLOSED
local NO_FILE = ffi.cast("tdl_file *", nil)
local CHUNK, MOST = 65536, 2 ^ 30

local function check_path(path, what)
  if type(path) ~= "string" then misuse(("%s must be a string, not %s"):format(what or "the path", type(path))) end
  return path
end

local function whole(n, low, high, what)
  if type(n) ~= "number" or n % 1 ~= 0 or n < low or n > high then
    misuse(("%s must be a whole number from %d to %d, not %s"):format(what, low, high, tostring(n)))
  end
  return n
end

--- What a call that failed returns: nil, the text, and the text with the path, for people.
local function failed(verb, path, rc, keep)
  local err = fail(rc, keep)
  return nil, err, ("%s %s: %s"):format(verb, path, err)
end

--- Is it one that C would see end early?  Its call then gets an empty one, which is refused.
local function whole_path(path)
  return path:find("\0", 1, true) and "" or path
end

-- -- Files -------------------------------------------------------------------

--- An open file, from treadle.open.
---@class treadle.File
---@field ptr ffi.cdata* tdl_file, NULL when closed
---@field path string
local File = {}
File.__index = File
class.public(File, "file")

local function refused(self, verb, rc, keep)
  if rc == EINVAL and self.ptr == NO_FILE and state.id ~= park.NO_TASK then rc = ECLOSED end
  return failed(verb, self.path, rc, keep)
end

local function read_some(self, n, offset, limit)
  local bytes = ffi.new("char[?]", n)
  local rc
  spend()
  if offset then
    rc = hold(C.tdl_file_pread_start(state.host, state.id, self.ptr, bytes, n, offset, limit))
  else
    rc = hold(C.tdl_file_read_start(state.host, state.id, self.ptr, bytes, n, limit))
  end
  if rc < 0 then return refused(self, "read", rc, bytes) end
  return ffi.string(bytes, rc)
end

--- Reads up to n bytes at the file's position, or all that is left.
---@param n integer|"*a"|nil "*a" or nil: to the end of the file
---@param timeout number|nil seconds
---@return string|nil data "" at the end of the file
---@return string|nil err "closed", "is a directory", "timeout", "cancelled", …
---@return string|nil text with an error: the same with the path
function File:read(n, timeout)
  local limit = deadline(timeout)
  if n ~= nil and n ~= "*a" then return read_some(self, whole(n, 0, MOST, "read's number of bytes"), nil, limit) end
  local parts = {}
  while true do
    local data, err, text = read_some(self, CHUNK, nil, limit)
    if not data then return nil, err, text end
    if data == "" then return table.concat(parts) end
    parts[#parts + 1] = data
  end
end

--- Reads as a connection does, for treadle.io.
---@param max integer|nil most bytes; 64 KiB when nil
---@return string|nil data never empty
---@return string|nil err "closed" at the end of the file; else as for read
---@return string|nil text
function File:read_some(max)
  max = max == nil and CHUNK or whole(max, 1, MOST, "read_some's limit")
  local data, err, text = read_some(self, max, nil, const.TDL_FOREVER)
  if data == "" then return nil, "closed" end
  return data, err, text
end

--- Reads up to n bytes at an offset; the position stays.
---@param n integer
---@param offset integer
---@param timeout number|nil seconds
---@return string|nil data
---@return string|nil err as for read
---@return string|nil text
function File:pread(n, offset, timeout)
  whole(n, 0, MOST, "pread's number of bytes")
  return read_some(self, n, whole(offset, 0, 2 ^ 52, "the offset"), deadline(timeout))
end

--- For a for loop: the lines, without their ends.  Reads ahead.
---@return fun(): string|nil
function File:lines()
  local rest, at, over = "", 1, false
  return function()
    while true do
      local stop = rest:find("\n", at, true)
      if stop then
        local line = rest:sub(at, stop - 1)
        at = stop + 1
        return line
      end
      if over then
        local line = at <= #rest and rest:sub(at) or nil
        rest, at = "", 1
        return line
      end
      local data, _, text = read_some(self, CHUNK, nil, const.TDL_FOREVER)
      if not data then error(text, 2) end
      rest, at, over = rest:sub(at) .. data, 1, data == ""
    end
  end
end

--- Writes all of a string, at the file's position.
---@param data string
---@param timeout number|nil seconds
---@return integer|nil n
---@return string|nil err "no space left", "closed", "timeout", …
---@return string|nil text
function File:write(data, timeout)
  if type(data) ~= "string" then misuse("write expects a string, not " .. type(data)) end
  local rc = hold(C.tdl_file_write_start(state.host, state.id, self.ptr, data, #data, deadline(timeout)))
  if rc < 0 then return refused(self, "write", rc) end
  return rc
end

--- Writes all of a string at an offset; the position stays.
---@param data string
---@param offset integer
---@param timeout number|nil seconds
---@return integer|nil n
---@return string|nil err as for write
---@return string|nil text
function File:pwrite(data, offset, timeout)
  if type(data) ~= "string" then misuse("pwrite expects a string, not " .. type(data)) end
  whole(offset, 0, 2 ^ 52, "the offset")
  local rc = hold(C.tdl_file_pwrite_start(state.host, state.id, self.ptr, data, #data, offset, deadline(timeout)))
  if rc < 0 then return refused(self, "write", rc) end
  return rc
end

local WHENCE = { set = 0, cur = 1, ["end"] = 2 }

--- Moves the position, as Lua's own files do.
---@param whence "set"|"cur"|"end"|nil "cur" when nil
---@param offset integer|nil 0 when nil
---@return integer|nil position
---@return string|nil err
---@return string|nil text
function File:seek(whence, offset)
  local from = WHENCE[whence or "cur"]
  if not from then misuse("seek expects set, cur or end, not " .. tostring(whence)) end
  local at = C.tdl_file_seek(self.ptr, whole(offset or 0, -2 ^ 52, 2 ^ 52, "the offset"), from)
  if at < 0 then return refused(self, "seek", tonumber(at)) end
  return tonumber(at)
end

--- Waits until what was written is on the disk.
---@param data_only boolean|nil without times and the like
---@param timeout number|nil seconds
---@return true|nil done
---@return string|nil err
---@return string|nil text
function File:sync(data_only, timeout)
  local rc = hold(C.tdl_file_sync_start(state.host, state.id, self.ptr, data_only and 1 or 0, deadline(timeout)))
  if rc < 0 then return refused(self, "sync", rc) end
  return true
end

--- Makes the file so long.
---@param size integer
---@param timeout number|nil seconds
---@return true|nil done
---@return string|nil err
---@return string|nil text
function File:truncate(size, timeout)
  whole(size, 0, 2 ^ 52, "the size")
  local rc = hold(C.tdl_file_truncate_start(state.host, state.id, self.ptr, size, deadline(timeout)))
  if rc < 0 then return refused(self, "truncate", rc) end
  return true
end

local TYPES = { [0] = "unknown", "file", "directory", "link", "fifo", "socket", "character", "block" }

---@class treadle.Stat
---@field type "file"|"directory"|"link"|"fifo"|"socket"|"character"|"block"|"unknown"
---@field size integer bytes
---@field mode integer permissions
---@field uid integer
---@field gid integer
---@field dev integer
---@field ino integer
---@field nlink integer
---@field blocks integer of 512 bytes
---@field atime number seconds since 1970: read
---@field mtime number written
---@field ctime number changed
---@field btime number born; 0: unknown

local function stat_table(st)
  return {
    type = TYPES[st.type], size = tonumber(st.length), mode = tonumber(st.mode), uid = tonumber(st.uid),
    gid = tonumber(st.gid), dev = tonumber(st.dev), ino = tonumber(st.ino), nlink = tonumber(st.links),
    blocks = tonumber(st.blocks), atime = tonumber(st.atime) / 1e9, mtime = tonumber(st.mtime) / 1e9,
    ctime = tonumber(st.ctime) / 1e9, btime = tonumber(st.btime) / 1e9,
  }
end

local function new_stat()
  local st = ffi.new "tdl_stat"
  st.size = ffi.sizeof(st)
  return st
end

--- What the system knows about the file.
---@return treadle.Stat|nil stat
---@return string|nil err
---@return string|nil text
function File:stat()
  local st = new_stat()
  local rc = hold(C.tdl_file_stat_start(state.host, state.id, self.ptr, st, const.TDL_FOREVER))
  if rc < 0 then return refused(self, "stat", rc, st) end
  return stat_table(st)
end

--- The descriptor, which still belongs to the file.
---@return integer|nil fd
---@return string|nil err "closed"
function File:fd()
  local fd = C.tdl_file_fd(self.ptr)
  if fd < 0 then return refused(self, "fd", fd) end
  return fd
end

--- Closes it. Goroutines that wait for it, and every later call, get nil, "closed".
---@return true|nil done
---@return string|nil err "closed" the second time; what close(2) says
function File:close()
  local ptr = self.ptr
  if ptr == NO_FILE then return nil, "closed" end
  self.ptr = NO_FILE
  local rc = C.tdl_file_close(ptr)
  C.tdl_file_free(ffi.gc(ptr, nil))
  if rc < 0 then return nil, fail(rc) end
  return true
end

function File:__tostring()
  return ("file %s%s"):format(self.path, self.ptr == NO_FILE and " (closed)" or "")
end

local function new_file(path)
  local ptr = ffi.cast("tdl_file *", state.outcomes[state.cur].val.u.p)
  return setmetatable({ ptr = ffi.gc(ptr, C.tdl_file_free), path = path }, File)
end

local R, W, A = const.TDL_OPEN_READ, const.TDL_OPEN_WRITE, const.TDL_OPEN_APPEND
local NEW, CUT, ALONE = const.TDL_OPEN_CREATE, const.TDL_OPEN_TRUNCATE, const.TDL_OPEN_EXCLUSIVE
local MODES = {
  ["r"] = R, ["r+"] = R + W, ["w"] = W + NEW + CUT, ["w+"] = R + W + NEW + CUT, ["a"] = W + A + NEW,
  ["a+"] = R + W + A + NEW, ["x"] = W + NEW + ALONE, ["x+"] = R + W + NEW + ALONE,
}

---@class treadle.OpenOptions
---@field perm integer|nil permissions of a new file, less the umask; octal 666 when nil
---@field timeout number|nil seconds

local M = { fs = {}, File = File }
local fs = M.fs

--- Opens a file.
---@param path string
---@param mode string|nil as io.open has them, "r" when nil; and "x", "x+": a file that was not there
---@param options treadle.OpenOptions|nil
---@return treadle.File|nil file
---@return string|nil err "no such file or directory", "permission denied", "already exists", …
---@return string|nil text with an error: the same with the path
function M.open(path, mode, options)
  check_path(path)
  local flags = MODES[(tostring(mode or "r"):gsub("b", ""))]
  if not flags then misuse("no such mode: " .. tostring(mode)) end
  errors.check_options(options, "open", "perm timeout ")
  local perm = whole(options and options.perm or 438, 0, 4095, "the permissions")
  local limit = deadline(options and options.timeout)
  local rc = hold(C.tdl_file_open_start(state.host, state.id, whole_path(path), flags, perm, limit))
  if rc < 0 then return failed("open", path, rc) end
  return new_file(path)
end

-- -- Paths -------------------------------------------------------------------

local function done(verb, path, rc)
  rc = hold(rc)
  if rc < 0 then return failed(verb, path, rc) end
  return true
end

--- What the system knows about a file, or what a symbolic link leads to.
---@param path string
---@param timeout number|nil seconds
---@return treadle.Stat|nil stat
---@return string|nil err
---@return string|nil text
function fs.stat(path, timeout)
  local st = new_stat()
  local rc = hold(C.tdl_fs_stat_start(state.host, state.id, whole_path(check_path(path)), 1, st, deadline(timeout)))
  if rc < 0 then return failed("stat", path, rc, st) end
  return stat_table(st)
end

--- The same of a symbolic link itself.
---@param path string
---@param timeout number|nil seconds
---@return treadle.Stat|nil stat
---@return string|nil err
---@return string|nil text
function fs.lstat(path, timeout)
  local st = new_stat()
  local rc = hold(C.tdl_fs_stat_start(state.host, state.id, whole_path(check_path(path)), 0, st, deadline(timeout)))
  if rc < 0 then return failed("stat", path, rc, st) end
  return stat_table(st)
end

local HOW = { r = 4, w = 2, x = 1 }

--- May the file be read ("r"), written ("w"), executed ("x"), or is it there (nil)?
---@param path string
---@param how string|nil "r", "w", "x" or several
---@return true|nil yes
---@return string|nil err "no such file or directory", "permission denied", …
---@return string|nil text
function fs.access(path, how)
  local bits = 0
  for c in (how or ""):gmatch "." do
    bits = bits + (HOW[c] or misuse("access expects r, w and x, not " .. c))
  end
  local rc = C.tdl_fs_access_start(state.host, state.id, whole_path(check_path(path)), bits, const.TDL_FOREVER)
  return done("access", path, rc)
end

--- Makes a directory.
---@param path string
---@param perm integer|nil permissions, less the umask; octal 777 when nil
---@return true|nil done
---@return string|nil err
---@return string|nil text
function fs.mkdir(path, perm)
  perm = whole(perm or 511, 0, 4095, "the permissions")
  return done("mkdir", path,
    C.tdl_fs_mkdir_start(state.host, state.id, whole_path(check_path(path)), perm, const.TDL_FOREVER))
end

--- Removes a directory that is empty.
---@param path string
---@return true|nil done
---@return string|nil err "directory not empty", …
---@return string|nil text
function fs.rmdir(path)
  return done("rmdir", path, C.tdl_fs_rmdir_start(state.host, state.id, whole_path(check_path(path)), const.TDL_FOREVER))
end

--- Removes a file.
---@param path string
---@return true|nil done
---@return string|nil err
---@return string|nil text
function fs.remove(path)
  return done("remove", path,
    C.tdl_fs_unlink_start(state.host, state.id, whole_path(check_path(path)), const.TDL_FOREVER))
end

local function two(from, to)
  return whole_path(check_path(from, "the first path")), whole_path(check_path(to, "the second path"))
end

--- Renames; what was at `to` is replaced.
---@param from string
---@param to string
---@return true|nil done
---@return string|nil err
---@return string|nil text
function fs.rename(from, to)
  local a, b = two(from, to)
  return done("rename", from, C.tdl_fs_rename_start(state.host, state.id, a, b, const.TDL_FOREVER))
end

--- Gives a file another name.
---@param to string the file
---@param path string the new name
---@return true|nil done
---@return string|nil err
---@return string|nil text
function fs.link(to, path)
  local a, b = two(to, path)
  return done("link", path, C.tdl_fs_link_start(state.host, state.id, a, b, const.TDL_FOREVER))
end

--- Makes a symbolic link.
---@param to string where it leads
---@param path string where it is
---@return true|nil done
---@return string|nil err
---@return string|nil text
function fs.symlink(to, path)
  local a, b = two(to, path)
  return done("symlink", path, C.tdl_fs_symlink_start(state.host, state.id, a, b, const.TDL_FOREVER))
end

--- Copies a file, with its permissions.
---@param from string
---@param to string
---@param exclusive boolean|nil nil, "already exists" when `to` is there
---@return true|nil done
---@return string|nil err
---@return string|nil text
function fs.copy(from, to, exclusive)
  local a, b = two(from, to)
  return done("copy", from,
    C.tdl_fs_copy_start(state.host, state.id, a, b, exclusive and 1 or 0, const.TDL_FOREVER))
end

--- Sets the permissions.
---@param path string
---@param perm integer
---@return true|nil done
---@return string|nil err
---@return string|nil text
function fs.chmod(path, perm)
  whole(perm, 0, 4095, "the permissions")
  return done("chmod", path,
    C.tdl_fs_chmod_start(state.host, state.id, whole_path(check_path(path)), perm, const.TDL_FOREVER))
end

--- Sets when it was read and written.
---@param path string
---@param atime number seconds since 1970
---@param mtime number
---@return true|nil done
---@return string|nil err
---@return string|nil text
function fs.utime(path, atime, mtime)
  if type(atime) ~= "number" or type(mtime) ~= "number" then misuse "utime expects two times in seconds" end
  return done("utime", path, C.tdl_fs_utime_start(state.host, state.id, whole_path(check_path(path)), atime * 1e9,
    mtime * 1e9, 1, const.TDL_FOREVER))
end

local TEXT = 4096

local function text_of(verb, path, start)
  local buf = ffi.new("char[?]", TEXT)
  local rc = hold(start(state.host, state.id, whole_path(check_path(path)), buf, TEXT, const.TDL_FOREVER))
  if rc < 0 then return failed(verb, path, rc, buf) end
  return ffi.string(buf)
end

--- Where a symbolic link leads.
---@param path string
---@return string|nil target
---@return string|nil err
---@return string|nil text
function fs.readlink(path)
  local target, err, text = text_of("readlink", path, C.tdl_fs_readlink_start)
  return target, err, text
end

--- The path without links, "." and "..".
---@param path string
---@return string|nil path
---@return string|nil err
---@return string|nil text
function fs.realpath(path)
  local real, err, text = text_of("realpath", path, C.tdl_fs_realpath_start)
  return real, err, text
end

--- Makes a directory of a name that nobody has.
---@param template string ends in "XXXXXX"
---@return string|nil path
---@return string|nil err
---@return string|nil text
function fs.mkdtemp(template)
  local made, err, text = text_of("mkdtemp", template, C.tdl_fs_mkdtemp_start)
  return made, err, text
end

--- Makes and opens a file of a name that nobody has.
---@param template string ends in "XXXXXX"
---@return treadle.File|nil file its path is file.path
---@return string|nil err
---@return string|nil text
function fs.mkstemp(template)
  local buf = ffi.new("char[?]", TEXT)
  local rc = hold(C.tdl_file_open_temp_start(state.host, state.id, whole_path(check_path(template)), buf, TEXT,
    const.TDL_FOREVER))
  if rc < 0 then return failed("mkstemp", template, rc, buf) end
  return new_file(ffi.string(buf))
end

--- A whole file.
---@param path string
---@param limit integer|nil most bytes; 2^30 when nil
---@param timeout number|nil seconds
---@return string|nil data
---@return string|nil err "too long", "no such file or directory", …
---@return string|nil text
function fs.read(path, limit, timeout)
  limit = whole(limit or MOST, 0, MOST, "the limit")
  local rc = hold(C.tdl_fs_read_start(state.host, state.id, whole_path(check_path(path)), limit, deadline(timeout)))
  if rc < 0 then return failed("read", path, rc) end
  return value.decode(state.outcomes[state.cur].val)
end

---@class treadle.WriteOptions
---@field append boolean|nil to what is there
---@field exclusive boolean|nil nil, "already exists" when there is one
---@field atomic boolean|nil by a file beside it that is synced and renamed: others see the old one or the new
---@field perm integer|nil permissions of a new file, less the umask; octal 666 when nil
---@field timeout number|nil seconds

--- Makes data the content of a file.
---@param path string
---@param data string
---@param options treadle.WriteOptions|nil
---@return true|nil done
---@return string|nil err "no space left", …
---@return string|nil text
function fs.write(path, data, options)
  if type(data) ~= "string" then misuse("write expects a string, not " .. type(data)) end
  errors.check_options(options, "write", "append exclusive atomic perm timeout ")
  options = options or {}
  local flags = (options.append and const.TDL_WRITE_APPEND or 0)
    + (options.exclusive and const.TDL_WRITE_EXCLUSIVE or 0) + (options.atomic and const.TDL_WRITE_ATOMIC or 0)
  local perm = whole(options.perm or 438, 0, 4095, "the permissions")
  return done("write", path, C.tdl_fs_write_start(state.host, state.id, whole_path(check_path(path)), data, #data, perm,
    flags, deadline(options.timeout)))
end

---@class treadle.DirEntry
---@field name string
---@field type "file"|"directory"|"link"|"fifo"|"socket"|"character"|"block"|"unknown"

--- The entries of a directory, sorted by name, without "." and "..".
---@param path string
---@return treadle.DirEntry[]|nil entries
---@return string|nil err
---@return string|nil text
function fs.readdir(path)
  local rc = hold(C.tdl_fs_scan_start(state.host, state.id, whole_path(check_path(path)), const.TDL_FOREVER))
  if rc < 0 then return failed("readdir", path, rc) end
  local dir = ffi.gc(ffi.cast("tdl_dir *", state.outcomes[state.cur].val.u.p), C.tdl_dir_free)
  local name, kind, entries = ffi.new "const char *[1]", ffi.new "int[1]", {}
  while C.tdl_dir_next(dir, name, kind) == 1 do
    entries[#entries + 1] = { name = ffi.string(name[0]), type = TYPES[kind[0]] }
  end
  C.tdl_dir_free(ffi.gc(dir, nil))
  return entries
end

return M
