#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The Lua reference as LDoc pages, from the LuaLS annotations, which are the only ones there are.

LDoc does not know their order (type after name, classes, options as fields), so for each page a file of
its own is written, with LDoc's tags and without code, and LDoc is run on those. A public function without
an annotation, a parameter or result that is not described, and every warning of LDoc is an error.

Usage: lua_docs.py DIRECTORY   (writes DIRECTORY/index.html …)
"""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
LUA = ROOT / "bindings/lua/treadle"
# Methods that only the binding itself calls.
INTERNAL = {"copy_to", "load", "sent", "settled", "drained", "received", "ended", "set_bytes", "take_back", "wrap", "inherit", "set"}
PAGES = {  # page: what it is; its files, and what comes before the names of their functions
    "treadle.sim": ("Simulation: a virtual clock, and an order that a seed decides.", {"sim": ""}),
    "treadle.guest": ("Goroutines as guests of another loop.", {"guest": ""}),
    "treadle.luv": ("Goroutines as guests of a libuv loop: luv's, or Neovim's.", {"luv": ""}),
    "treadle.trace": ("Where LuaJIT's compiler gave a trace up, and why.", {"trace": ""}),
    "treadle.compat.ngx": ("OpenResty's ngx, without nginx.", {
        "compat/ngx/init": "", "compat/ngx/tcp": "socket.", "compat/ngx/udp": "socket.", "compat/ngx/thread": "thread.",
        "compat/ngx/semaphore": "semaphore.", "compat/ngx/timer": "timer.", "compat/ngx/re": "re.", "compat/ngx/clock": "",
        "compat/ngx/codec": "", "compat/ngx/uri": "", "compat/ngx/request": "", "compat/ngx/log": "", "compat/ngx/dict": ""}),
    "treadle.compat.socket": ("LuaSocket, on treadle.", {"compat/socket/init": "", "compat/socket/tcp": "", "compat/socket/udp": ""}),
}
problems: list[str] = []


def type_and_rest(text: str) -> tuple[str, str]:
    """Splits "fun(a: b): c|nil what it is" after the type."""
    depth, i = 0, 0
    while i < len(text):
        c = text[i]
        if c in "([{<":
            depth += 1
        elif c in ")]}>":
            depth -= 1
        elif c == '"':
            i = text.index('"', i + 1)
        elif c == " " and depth == 0 and text[i - 1] not in ":,|":
            break
        i += 1
    return text[:i], text[i:].strip()


def ldoc_type(text: str) -> str:
    return re.sub(r"\s+", "", text).replace("[]", "{}") or "any"


class Block:
    """A comment of three dashes, and the line of code below it."""

    def __init__(self, where: str, lines: list[str], code: str):
        self.where, self.code = where, code
        self.text: list[str] = []
        self.tags: list[tuple[str, str]] = []
        for line in lines:
            tag = re.match(r"@(\w+)\s*(.*)", line)
            if tag:
                self.tags.append((tag[1], tag[2]))
            elif line.startswith("|"):
                continue
            elif self.tags:
                name, text = self.tags[-1]
                self.tags[-1] = (name, f"{text} {line.strip()}")
            else:
                self.text.append(line)

    def of(self, name: str) -> list[str]:
        return [text for tag, text in self.tags if tag == name]

    def summary(self) -> list[str]:
        return self.text or [""]


def blocks(path: pathlib.Path) -> list[Block]:
    found, comment, begun = [], [], 0
    for number, line in enumerate([*path.read_text().splitlines(), ""], 1):
        line = line.removeprefix("  ") if line.startswith(("  ---", "  function class:")) else line
        if line.startswith("---"):
            if not comment:
                begun = number
            comment.append(line[3:].removeprefix(" "))
            continue
        if comment or re.match(r"function |local (function )?\w+ = ", line):
            found.append(Block(f"{path.relative_to(ROOT)}:{begun if comment else number}", comment, line))
        comment = []
    return found


def function(name: str, b: Block, arguments: str) -> list[str]:
    """The block as LDoc wants it."""
    declared = [a.strip() for a in arguments.split(",") if a.strip()]
    if not any(b.text):
        problems.append(f"{b.where}: {name} is not described")
    out = [f"--- {b.summary()[0]}", *(f"-- {line}" for line in b.summary()[1:])]
    described = []
    for text in b.of("param"):
        param, _, rest = text.partition(" ")
        kind, what = type_and_rest(rest)
        optional = param.endswith("?") or kind.endswith("|nil")
        param = param.rstrip("?")
        described.append(param)
        out.append(f"-- @tparam{'[opt]' if optional and param != '...' else ''} {ldoc_type(kind.removesuffix('|nil'))} {param} {what}")
    if described != declared:
        problems.append(f"{b.where}: {name}({arguments}) describes ({', '.join(described)})")
    for text in b.of("return"):
        kind, what = type_and_rest(text)
        out.append(f"-- @treturn {ldoc_type(kind)} {what or '-'}")
    return [*out, f"function {name}({arguments}) end", ""]


def fields(b: Block, name: str) -> list[str]:
    """A class that has fields only: a table."""
    title = b.of("class")[0].partition(" ")[2] if not any(b.text) else ""
    text = [line for line in b.text if line] or [title or f"The fields of a {name}."]
    out = [f"--- {text[0]}", *(f"-- {line}" for line in text[1:]), f"-- @table {name}"]
    for text in b.of("field"):
        field, _, rest = text.partition(" ")
        kind, what = type_and_rest(rest)
        optional = kind.endswith("|nil")
        out.append(f"-- @tfield{'[opt]' if optional else ''} {ldoc_type(kind.removesuffix('|nil'))} {field.rstrip('?')} {what or '-'}")
    return [*out, ""]


class Page:
    def __init__(self, name: str, what: str):
        self.name, self.what = name, what
        self.functions: list[str] = []
        self.tables: list[str] = []
        self.classes: dict[str, list[str]] = {}

    def write(self, directory: pathlib.Path) -> None:
        out = [f"--- {self.what}", f"-- @module {self.name}", "", *self.functions, *self.tables]
        for lines in self.classes.values():
            out += [*lines, ""]
        (directory / f"{self.name}.lua").write_text("\n".join(out) + "\n")


def add(page: Page, path: pathlib.Path, exported: dict[str, str] | None, prefix: str = "") -> None:
    """Puts what a file has on the page; exported: its functions' names for users, None: as they are, with the prefix."""
    names = {cls: cls for cls in page.classes}  # of a class, by the variable: some get more methods in another file
    for b in blocks(path):
        cls = b.of("class")
        if cls:
            name = re.split(r"[\s:]", cls[0])[0].rpartition(".")[2]
            local = re.match(r"local (\w+) = ", b.code)
            if local and b.code.endswith("{}"):
                names[local[1]] = name
                text = [line for line in b.text if line] or [f"A {name}."]
                page.classes[name] = [f"--- {text[0]}", *(f"-- {line}" for line in text[1:]), f"-- @type {name}", ""]
            elif b.of("field") and not name[0].islower():
                page.tables += fields(b, name)
            continue
        code = re.match(r"function (\w+)([.:])(\w+)\((.*?)\)", b.code)
        if not code or code[3].startswith("__") or code[3] in INTERNAL:
            continue
        owner, dot, name, arguments = code.groups()
        if owner == "class":  # option.lua mixes them into these
            for cls in ("Conn", "Listener", "Dgram"):
                page.classes[cls] += function(f"{cls}:{name}", b, arguments)
            continue
        if owner in names:
            page.classes[names[owner]] += function(f"{names[owner]}{dot}{name}", b, arguments)
        elif owner in ("fs", "tty", "req") and dot == ".":
            page.functions += function(f"{owner}.{name}", b, arguments)
        elif dot == ".":
            shown = prefix + name if exported is None else exported.get(name)
            if shown:
                page.functions += function(shown, b, arguments)


def main() -> int:
    target = pathlib.Path(sys.argv[1]).resolve()
    source = target / "source"
    source.mkdir(parents=True, exist_ok=True)
    main_page = Page("treadle", "Goroutines, channels, select and network I/O for LuaJIT.")
    init = (LUA / "init.lua").read_text()
    modules = dict(re.findall(r'local (\w+) = require "treadle\.(\w+)"', init))
    public: dict[str, dict[str, str]] = {name: {} for name in ["task", "conn", *re.findall(r'require "treadle\.(\w+)"', init)]}
    for shown, local, name in re.findall(r"^  (\w+) = (\w+)\.(\w+),", init, re.M):
        if local in modules:
            public[modules[local]][name] = shown
    documented: set[str] = set()
    for module, exported in public.items():
        before = len(main_page.functions)
        add(main_page, LUA / f"{module}.lua", exported)
        text = "\n".join(main_page.functions[before:])
        documented |= {shown for shown in exported.values() if f"function {shown}(" in text}
        for name, shown in exported.items():
            if shown not in documented and shown not in ("_VERSION", "fs", "tty"):
                problems.append(f"bindings/lua/treadle/{module}.lua: treadle.{shown} is no documented function M.{name}")
    add(main_page, LUA / "option.lua", {})
    main_page.write(source)
    for name, (what, files) in PAGES.items():
        page = Page(name, what)
        for file, prefix in files.items():
            add(page, LUA / f"{file}.lua", None, prefix)
        page.write(source)
    (source / "config.ld").write_text(
        "project = 'treadle'\ntitle = 'treadle for LuaJIT'\nfile = { " +
        ", ".join(f"'{name}.lua'" for name in ["treadle", *PAGES]) +
        f" }}\ndir = '{target}'\nno_space_before_args = true\nsort = false\nformat = 'plain'\n")
    run = subprocess.run(["ldoc", "--fatalwarnings", "."], cwd=source, capture_output=True, text=True)
    said = [line for line in (run.stdout + run.stderr).splitlines()
            if line.strip() and not line.startswith(("reading ", "output written", "generating "))]
    problems.extend(said)
    for problem in problems:
        print(problem)
    if run.returncode or problems:
        print(f"{max(len(problems), 1)} problems in the Lua reference")
        return 1
    print(f"the Lua reference: {target}/index.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
