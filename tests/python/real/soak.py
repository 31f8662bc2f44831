# SPDX-License-Identifier: MIT
"""soak.py [SECONDS]: the scenarios of real programs again and again, many at a time, with
cancellations and timeouts in between, for 300 seconds; then says what has grown.

It fails when an answer does not belong to its question, when something fails that
was not cancelled, or when descriptors, goroutines, tasks or memory have grown from
the end of the first fifth on: here, and in the servers, which run on treadle's loop too."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import os
import random
import sys
import time
from collections import Counter

import scenarios
import services
import treadle

AT_A_TIME = 8
GROWTH_KB = 30_000


def here() -> dict[str, int]:
    """What this process holds when nobody is at work."""
    gc.collect()
    with open("/proc/self/statm") as f:
        resident = int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
    names = ("goroutines", "tasks", "connections", "descriptors")
    return {"descriptors of the process": len(os.listdir("/proc/self/fd")), "resident kB": resident,
            **{name: treadle.metric(name) for name in names}}


async def settled(server: services.Service) -> dict[str, int]:
    """The same of a server, once its connections have ended."""
    least = server.descriptors()
    for _ in range(50):
        await asyncio.sleep(0.02)
        least = min(least, server.descriptors())
    return {"descriptors of the process": least, "resident kB": server.resident_kb()}


class Soak:
    def __init__(self, work: list[tuple[object, str]]) -> None:
        self.work, self.done, self.tags = work, Counter[str](), itertools.count()

    async def one(self, end: float) -> None:
        while time.monotonic() < end:
            scenario, address = random.choice(self.work)
            tag, how = f"t{next(self.tags)}", random.choice(["whole", "whole", "cancelled", "timeout"])
            after = random.uniform(0, 0.2)
            task = asyncio.ensure_future(scenario(address, tag))
            if how == "cancelled":
                asyncio.get_running_loop().call_later(after, task.cancel)
            try:
                async with asyncio.timeout(after if how == "timeout" else 60):
                    await task
            except asyncio.CancelledError:
                if how != "cancelled":
                    raise
            except TimeoutError:
                if how != "timeout":
                    raise
            except Exception as error:
                # What a library makes of being cancelled is its own; a wrong answer is not.
                if how == "whole" or isinstance(error, AssertionError):
                    raise RuntimeError(f"{scenario.__name__} {tag} ({how})") from error
            self.done[f"{scenario.__name__}, {how}"] += 1

    async def run(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_A_TIME):
                group.create_task(self.one(end))
        # What was cancelled closes. websockets' connections do when their pings are not answered, which
        # takes 40 s: one that was cancelled while it closed may have paused its reading for good.
        quiet = time.monotonic() + 120
        while len(asyncio.all_tasks()) > 1 and time.monotonic() < quiet:
            await asyncio.sleep(0.1)


def grown(name: str, before: dict[str, int], after: dict[str, int]) -> list[str]:
    return [f"{name}: {what}: {before[what]}, then {after[what]}" for what in before
            if after[what] > before[what] + (GROWTH_KB if what == "resident kB" else 3)]


async def main(seconds: float) -> int:
    with contextlib.ExitStack() as stack:
        uvicorn = stack.enter_context(services.Uvicorn())
        web = stack.enter_context(services.Aiohttp())
        redis = stack.enter_context(services.Redis())
        postgres = stack.enter_context(services.Postgres())
        soak = Soak([
            (scenarios.http_httpx, uvicorn.url), (scenarios.http_aiohttp, uvicorn.url), (scenarios.chat, uvicorn.url),
            (scenarios.http_httpx, web.url), (scenarios.http_aiohttp, web.url), (scenarios.chat, web.url),
            (scenarios.key_value, redis.path), (scenarios.database, postgres.host),
        ])
        servers = {"uvicorn": uvicorn, "aiohttp": web}
        unexpected: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unexpected.append(context))
        await soak.run(seconds / 5)
        before = {"clients": here(), **{name: await settled(server) for name, server in servers.items()}}
        await soak.run(seconds * 4 / 5)
        after = {"clients": here(), **{name: await settled(server) for name, server in servers.items()}}
    for what, n in sorted(soak.done.items()):
        print(f"{n:8}  {what}")
    for name in before:
        print(f"{name}: " + ", ".join(f"{what} {before[name][what]} -> {after[name][what]}" for what in before[name]))
    for message, n in Counter(str(context.get("message")) for context in unexpected).items():
        print(f"reported to the loop: {n}x {message}")
    bad = [line for name in before for line in grown(name, before[name], after[name])]
    for line in bad:
        print(f"grown: {line}")
    print(f"\n{sum(soak.done.values())} passed, {len(bad)} failed")
    return 1 if bad else 0


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=treadle.new_event_loop) as runner:
        sys.exit(runner.run(main(float(sys.argv[1]) if len(sys.argv) > 1 else 300)))
