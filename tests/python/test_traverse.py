# SPDX-License-Identifier: MIT
"""Each object that a struct of the extension holds is shown to the collector (tp_traverse), or
is said here not to be: found in the sources, so that a new field is not forgotten."""

import re
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[2] / "bindings/python/src"

# Not the struct's own reference, or of what can be in no cycle.
NOT_VISITED = {
    "weakrefs",  # a list of those that look at it
    "spare", "tls_room",  # bytes
    "unused",  # slots that asyncio's classes have and nothing sets
    "prev_live", "next_live", "prev", "next", "next_free", "live",  # links of lists
    "ploop", "current", "stale", "reader", "trobj.l",  # borrowed
}  # fmt: skip


def without_comments(text):
    return re.sub(r"/\*.*?\*/", "", text, flags=re.S)


def structs(text):
    """name: {field: type} of pointers, for those that begin with PyObject_HEAD."""
    found = {}
    for tag, body, name in re.findall(r"struct (\w*)\s*\{([^{}]*)\}\s*(\w*)", text):
        if "PyObject_HEAD" not in body:
            continue
        lines = "\n".join(line for line in body.replace("PyObject_HEAD", "").splitlines() if not line.startswith("#"))
        fields = found[name or tag] = {}
        for declaration in lines.split(";"):
            if m := re.match(r"\s*(?:struct )?(\w+)\s+(\*.*)", declaration, re.S):
                fields |= dict.fromkeys(re.findall(r"\*+\s*(\w+)", m[2]), m[1])
    return found


def test_every_field_is_visited():
    if not SOURCES.is_dir():
        pytest.skip("the sources are not here")
    text = without_comments("\n".join(p.read_text() for p in sorted(SOURCES.glob("*.[ch]"))))
    found = structs(text)
    assert len(found) > 25
    objects = {*found, "PyObject", "PyTypeObject"}
    functions = re.findall(r"\n(\w*(?:traverse|visit)\w*)\((.*?)\)\n\{(.*?)\n\}", text, re.S)
    missing = []
    for name, fields in found.items():
        own = "\n".join(body for _, arguments, body in functions if re.search(rf"\b{name} \*", arguments))
        bodies = own or "\n".join(body for _, _, body in functions)
        if name == "tlsobj":  # by a list of its slots
            assert "Py_VISIT" in own
            continue
        missing += [f"{name}.{field}" for field, type_ in fields.items()
                    if type_ in objects and not {field, f"{name}.{field}"} & NOT_VISITED
                    and not re.search(rf"(->|\.){field}\b", bodies)]  # fmt: skip
    assert not missing, ", ".join(missing)
