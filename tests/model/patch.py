# SPDX-License-Identifier: MIT
"""patch.py CORE HERE FILE OUT [MUTANT]: writes OUT/FILE, a changed copy of CORE/FILE.

The changes come from HERE/adaptations.txt, those of the mutant from HERE/mutants.txt:

    == FILE                                       in adaptations.txt
    == NAME PROGRAM SCENARIO FILE [REPORT]        in mutants.txt
    -- was
    text that is there exactly once
    -- is
    text to put in its place

Lines that begin with "# " are comments. A text that is not there any more fails the build: then the table is to follow
the source.
"""

import pathlib
import sys


def entries(path):
    """(words of the head line, [(was, is), ...]) for each entry."""
    head, changes, into = None, [], None
    for line in path.read_text().splitlines(keepends=True):
        if line.startswith("# "):
            continue
        if line.startswith("== "):
            if head:
                yield head, changes
            head, changes, into = line.split()[1:], [], None
        elif line.startswith("-- was"):
            changes.append(["", ""])
            into = 0
        elif line.startswith("-- is"):
            into = 1
        elif into is not None:
            changes[-1][into] += line
        elif line.strip():
            sys.exit(f"{path}: not part of an entry: {line}")
    if head:
        yield head, changes


def apply(text, changes, what):
    for was, now in changes:
        was, now = was.rstrip("\n"), now.rstrip("\n")
        n = text.count(was)
        if n != 1:
            sys.exit(f"{what}: this text is there {n} times, not once:\n{was}")
        text = text.replace(was, now)
    return text


def main(core, here, name, out, mutant=None):
    here = pathlib.Path(here)
    text = pathlib.Path(core, name).read_text()
    for head, changes in entries(here / "adaptations.txt"):
        if head[0] == name:
            text = apply(text, changes, f"adaptations.txt, {name}")
    if mutant:
        for head, changes in entries(here / "mutants.txt"):
            if head[0] == mutant:
                text = apply(text, changes, f"mutants.txt, {mutant} ({name})")
    target = pathlib.Path(out, name)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)


main(*sys.argv[1:])
