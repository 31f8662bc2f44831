# SPDX-License-Identifier: MIT
"""asyncio's call graph (from 3.14 on): who awaits what, from inside the process and, by
python -m asyncio ps and pstree, from outside."""

import asyncio
import os
import re
import subprocess
import sys

import pytest
import treadle

pytestmark = pytest.mark.skipif(sys.version_info < (3, 14), reason="asyncio has no call graph")


async def leaf():
    await asyncio.sleep(60)


async def group():
    async with asyncio.TaskGroup() as tg:
        for name in ("first", "second"):
            tg.create_task(leaf(), name=name)


async def gathering():
    await asyncio.gather(asyncio.create_task(leaf(), name="gathered"))


async def reading(reader):
    async with asyncio.timeout(60):
        return await reader.readexactly(1)


async def receiving(ch):
    return await ch.recv()


async def between(ch):
    return await receiving(ch)


async def joining(g):
    return await g


def named(graph):
    """A call graph without what differs from run to run."""
    return (
        graph.future.get_name(),
        [entry.frame.f_code.co_qualname for entry in graph.call_stack],
        [named(one) for one in graph.awaited_by],
    )


async def asyncios():
    """Tasks that are asyncio's alone, and what the call graph of each is."""
    reader = asyncio.StreamReader()
    task = asyncio.create_task
    roots = [task(group(), name="group"), task(gathering(), name="gathering"), task(reading(reader), name="reading")]
    await asyncio.sleep(0.01)
    graphs = {}
    for one in asyncio.all_tasks():
        graphs[one.get_name()] = named(asyncio.capture_call_graph(one))
    shown = asyncio.format_call_graph(roots[0], depth=1)
    for one in roots:
        one.cancel()
    await asyncio.gather(*roots, return_exceptions=True)
    return graphs, re.sub("0x[0-9a-f]+", "0x", shown)


def test_as_asyncio():
    seen = []
    for factory in (None, treadle.new_event_loop):
        with asyncio.Runner(loop_factory=factory) as runner:
            main = runner.get_loop().create_task(asyncios(), name="main")
            seen.append(runner.get_loop().run_until_complete(main))
    assert seen[0] == seen[1]
    graphs = seen[1][0]
    assert graphs["first"][2] == [("group", ["TaskGroup._aexit", "TaskGroup.__aexit__", "group"], [])]
    assert len(graphs) == 7


def test_into_a_goroutine(drive):
    """A task that awaits a goroutine waits where that does."""

    async def main():
        ch = treadle.Chan()
        g = treadle.go(between(ch))
        task = asyncio.create_task(joining(treadle.go(joining(g))), name="joins")
        await asyncio.sleep(0.01)
        graph = asyncio.capture_call_graph(task)
        await ch.send(1)
        assert await task == 1
        return named(graph)

    assert drive(main) == ("joins", ["receiving", "between", "joining", "joining"], [])


def test_nothing_but_a_wait_goes_on():
    """Only an op that waits for a goroutine has the attributes of a coroutine."""

    async def main():
        ch = treadle.Chan()
        g = treadle.go(receiving(ch))
        join, recv = g.__await__(), ch.recv()
        for op in (join, recv):
            for name in ("cr_await", "cr_frame"):
                with pytest.raises(AttributeError, match=f"has no attribute '{name}'"):
                    getattr(op, name)
            op.close()
        await ch.send(1)
        await g

    asyncio.run(main(), loop_factory=treadle.new_event_loop)


def test_a_goroutine_is_no_future():
    """asyncio shows futures of its own classes only, and says so."""

    async def main():
        with pytest.raises(TypeError, match="'me' .*running> object does not appear to be compatible with asyncio.Future"):
            asyncio.capture_call_graph()
        task = asyncio.create_task(leaf())
        g = treadle.go(joining(task))
        await asyncio.sleep(0.01)
        assert asyncio.capture_call_graph(task).awaited_by == ()
        g.cancel()
        with pytest.raises(asyncio.CancelledError):
            await g
        task.cancel()

    async def outer():
        g = treadle.go(main(), name="me")
        await g

    asyncio.run(outer(), loop_factory=treadle.new_event_loop)


async def ask(what):
    """What python -m asyncio says about this process."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "asyncio", what, str(os.getpid()), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    said = (await child.communicate())[0].decode()
    if "insufficient permissions" in said:
        pytest.skip("this process may not look into another")
    assert child.returncode == 0, said
    return said


def test_from_outside():
    async def main():
        ch = treadle.Chan()
        g = treadle.go(between(ch), name="unseen")
        tasks = [
            asyncio.create_task(group(), name="group"),
            asyncio.create_task(joining(g), name="joins"),
        ]
        await asyncio.sleep(0.01)
        table, tree = await ask("ps"), await ask("pstree")
        await ch.send(1)
        assert await tasks[1] == 1
        tasks[0].cancel()
        await asyncio.wait(tasks)
        return table, tree

    with asyncio.Runner(loop_factory=treadle.new_event_loop) as runner:
        table, tree = runner.run(main())
    rows = {re.split(r"\s{2,}", line)[2]: line for line in table.splitlines() if "0x" in line}
    assert {"group", "joins", "first", "second"} <= rows.keys()
    assert re.search(r"sleep -> leaf +TaskGroup._aexit -> TaskGroup.__aexit__ -> group +group +0x", rows["first"])
    assert re.search(r"joins +joining +0x0", rows["joins"])
    assert "unseen" not in table  # a goroutine is no task
    lines = [re.sub("[└─├│ ]+", " ", line).split(" /")[0].strip() for line in tree.splitlines()]
    at = lines.index("(T) group")
    assert lines[at : at + 10] == [
        "(T) group", "group", "TaskGroup.__aexit__", "TaskGroup._aexit",
        "(T) first", "leaf", "sleep", "(T) second", "leaf", "sleep",
    ]
    at = lines.index("(T) joins")
    assert lines[at : at + 2] == ["(T) joins", "joining"]
