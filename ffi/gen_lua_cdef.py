#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Derives bindings/lua/treadle/cdef.lua from core/include/treadle.h and its parts.

The headers are the only source of the ABI.  What LuaJIT's ffi.cdef can take
(types, structures, functions) goes into one string; what it cannot (macros) or
should not take (enumerations: a second definition of an enum constant is an
error there) becomes a table of numbers.  No C compiler is needed.

    ffi/gen_lua_cdef.py            writes the file
    ffi/gen_lua_cdef.py --check    fails when the checked-in file is stale
"""
import ast
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
HEADER = ROOT / "core" / "include" / "treadle.h"
FOR_C = {"io.h"}  # its interfaces are callbacks, from which a coroutine cannot wait
OUTPUT = ROOT / "bindings" / "lua" / "treadle" / "cdef.lua"

LIMITS = {"INT64_MAX": 2**63 - 1, "INT64_MIN": -(2**63), "UINT32_MAX": 2**32 - 1}

# The structures whose size the loaded library is asked for (tdl_abi_size).
STRUCT = re.compile(r"typedef struct (tdl_\w+) \{")
OPAQUE = re.compile(r"typedef struct (tdl_\w+) \1;")

BINARY = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.LShift: lambda a, b: a << b,
    ast.RShift: lambda a, b: a >> b,
    ast.BitOr: lambda a, b: a | b,
    ast.BitAnd: lambda a, b: a & b,
}


def fail(message):
    sys.exit(f"{HEADER.relative_to(ROOT)}: {message}")


def evaluate(text, known):
    """The value of an integer constant expression of C, or None."""
    text = re.sub(r"\bU?INT(?:8|16|32|64|MAX)_C\((-?\w+)\)", r"(\1)", text)
    text = re.sub(r"\b(0[xX][0-9a-fA-F]+|\d+)[uUlL]+\b", r"\1", text)

    def walk(node):
        if isinstance(node, ast.Expression):
            return walk(node.body)
        if isinstance(node, ast.Constant) and isinstance(node.value, int):
            return node.value
        if isinstance(node, ast.Name):
            return known.get(node.id, LIMITS.get(node.id))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            value = walk(node.operand)
            return None if value is None else -value
        if isinstance(node, ast.BinOp) and type(node.op) in BINARY:
            left, right = walk(node.left), walk(node.right)
            if left is not None and right is not None:
                return BINARY[type(node.op)](left, right)
        return None

    try:
        return walk(ast.parse(text.strip(), mode="eval"))
    except SyntaxError:
        return None


def parts():
    """What treadle.h includes, each behind what it needs, as a compiler sees it."""
    names = re.findall(r'^#include "treadle/(\w+\.h)"', HEADER.read_text(), flags=re.M)
    present = {file.name for file in (HEADER.parent / "treadle").glob("*.h")}
    if set(names) != present:
        fail(f"includes not just what there is: {sorted(set(names) ^ present)}")
    return [(HEADER.parent / "treadle" / name).read_text() for name in names if name not in FOR_C]


def preprocess(source):
    """Takes comments, conditionals, inclusions and macros out; returns text and macros."""
    source = re.sub(r"/\*.*?\*/", " ", source, flags=re.S)
    source = re.sub(r"\\\n", " ", source)
    kept, macros = [], {}
    skip = 0  # depth inside a conditional whose text is not for us
    for line in source.splitlines():
        directive = re.match(r"\s*#\s*(\w+)\s*(.*)", line)
        if not directive:
            if not skip:
                kept.append(line)
            continue
        word, rest = directive.groups()
        if word in ("if", "ifdef", "ifndef"):
            guard = word == "ifndef" and re.fullmatch(r"TREADLE_(\w+_)?H", rest.strip())
            skip += 0 if guard else 1
        elif word == "endif":
            skip -= 1 if skip else 0
        elif word == "define" and not skip:
            name, _, value = rest.partition(" ")
            if "(" not in name and value.strip():
                macros[name] = value.strip()
    return "\n".join(kept), macros


def constants(text, macros):
    """Enumerators and integer macros, in the order of the header."""
    found = {}
    for body in re.findall(r"\benum\s*\w*\s*\{(.*?)\}\s*;", text, flags=re.S):
        following = 0
        for item in filter(None, (part.strip() for part in body.split(","))):
            name, _, value = (part.strip() for part in item.partition("="))
            number = evaluate(value, found) if value else following
            if number is None:
                fail(f"cannot evaluate the enumerator {item!r}")
            found[name] = number
            following = number + 1
    for name, value in macros.items():
        number = evaluate(value, found)
        if number is None and name != "TDL_API":
            fail(f"cannot evaluate the macro {name} = {value!r}")
        if number is not None:
            found[name] = number
    return found


def declarations(text):
    text = re.sub(r"\benum\s*\w*\s*\{.*?\}\s*;", "", text, flags=re.S)
    text = text.replace("TDL_API ", "")
    lines = (re.sub(r"\s+", " ", line).strip() for line in text.splitlines())
    return "\n".join(line for line in lines if line)


def lua_number(value):
    if -(2**53) <= value <= 2**53:
        return str(value)
    return f"{value}LL"


def generate():
    text, macros = preprocess("".join(parts()))
    values = constants(text, macros)
    cdef = declarations(text)
    structs = STRUCT.findall(cdef)
    opaque = OPAQUE.findall(cdef)
    if "#" in cdef or "]]" in cdef or not structs or not opaque:
        fail("what is left after preprocessing is not what ffi.cdef takes")
    out = [
        "-- SPDX-License-Identifier: MIT",
        "-- The C ABI of treadle as LuaJIT's ffi takes it.",
        "-- Written by ffi/gen_lua_cdef.py from core/include/treadle.h: do not edit.",
        "-- luacheck: ignore 631",
        "",
        "return {",
        f"  abi = {values['TDL_ABI_VERSION']},",
        '  version = "%d.%d.%d",' % tuple(
            values[f"TDL_VERSION_{part}"] for part in ("MAJOR", "MINOR", "PATCH")),
        "  -- structures whose size the library is asked for",
        "  structs = { " + ", ".join(f'"{name}"' for name in structs) + " },",
        "  const = {",
        *(f"    {name} = {lua_number(value)}," for name, value in values.items()),
        "  },",
        "  cdef = [[",
        cdef,
        "]],",
        "}",
        "",
    ]
    return "\n".join(out)


def main():
    arguments = sys.argv[1:]
    if arguments not in ([], ["--check"]):
        sys.exit(__doc__)
    wanted = generate()
    if not arguments:
        OUTPUT.write_text(wanted)
    elif not OUTPUT.exists() or OUTPUT.read_text() != wanted:
        sys.exit(f"{OUTPUT.relative_to(ROOT)} is stale: run ffi/gen_lua_cdef.py")


if __name__ == "__main__":
    main()
