# SPDX-License-Identifier: MIT
"""help() has something to say of each public name, and says it of the name itself; the programs
in the documents are Python, name what there is, and print what they say."""

import ast
import enum
import inspect
import re
import types
from pathlib import Path

import pytest

import treadle
import treadle.fs
import treadle.io
import treadle.sim

MODULES = (treadle, treadle.fs, treadle.io, treadle.sim)
PLAIN = (types.ModuleType, int, float, str, bytes, tuple, type(None))


def names(module):
    return getattr(module, "__all__", None) or [name for name in vars(module) if not name.startswith("_")]


def public():
    """(name, object) of all that a program may use."""
    for module in MODULES:
        for name in names(module):
            thing = getattr(module, name)
            where = getattr(thing, "__module__", module.__name__) or ""
            if isinstance(thing, PLAIN) or not where.startswith("treadle"):
                continue
            yield f"{module.__name__}.{name}", thing
            if isinstance(thing, type) and not issubclass(thing, enum.Enum):
                for member, value in vars(thing).items():
                    if not member.startswith("_") and not isinstance(value, PLAIN):
                        yield f"{module.__name__}.{name}.{member}", getattr(thing, member)


def test_each_has_one():
    without = []
    for name, thing in public():
        # a class's own: not that of what it derives from
        said = thing.__doc__ if isinstance(thing, type) else inspect.getdoc(thing)
        if not said or not said.strip():
            without.append(name)
    assert without == []
    assert sum(1 for _ in public()) > 400


def test_all_names_what_there_is():
    for module in MODULES:
        for name in names(module):
            assert hasattr(module, name), f"{module.__name__}.{name}"


BLOCKS = [
    pytest.param(text, id=f"{document}-{number}")
    for document in ("README.md", "docs/python.md")
    for number, text in enumerate(
        re.findall(r"```python\n(.*?)```", (Path(__file__).parents[2] / document).read_text(encoding="utf-8"), re.S)
    )
]


def test_there_are_programs_in_the_documents():
    assert len(BLOCKS) > 15


@pytest.mark.parametrize("text", BLOCKS)
def test_a_program_of_the_documents(text, capsys):
    tree = compile(text, "document", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    compile(text, "document", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    modules = {"treadle": treadle, "fs": treadle.fs, "io": treadle.io}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            assert hasattr(modules[node.value.id], node.attr), f"{node.value.id}.{node.attr}"
    said = re.findall(r"print\(.*# (\d+)$", text, re.M)
    if said:
        exec(compile(tree, "document", "exec"), {"__name__": "document"})
        assert capsys.readouterr().out.split() == said
