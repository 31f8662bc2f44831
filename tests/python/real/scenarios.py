# SPDX-License-Identifier: MIT
"""What clients do, and check: each answer belongs to its question. Used once by the
tests, and again and again, in between cancellations, by the soak.

Each is a coroutine function of an address and a tag that nobody else uses."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import aiohttp
import asyncpg
import httpx
import redis.asyncio
import websockets.asyncio.client


def lines(tag: str, n: int) -> bytes:
    return b"".join(f"{tag} {i}\n".encode() * 50 for i in range(n))


@contextlib.asynccontextmanager
async def whole_close(client: httpx.AsyncClient) -> AsyncIterator[httpx.AsyncClient]:
    """httpx forgets the connections that are still open when closing its client is cancelled."""
    try:
        yield client
    finally:
        await asyncio.shield(asyncio.ensure_future(client.aclose()))


async def http_httpx(url: str, tag: str, n: int = 10) -> None:
    async with whole_close(httpx.AsyncClient(base_url=url, timeout=20)) as client:
        async def one(i: int) -> None:
            body = f"{tag}-{i}".encode() * (1 + 100 * (i % 7))
            answer = await client.post(f"/echo/{tag}.{i}", content=body)
            assert answer.content == f"{tag}.{i}:".encode() + body

        await asyncio.gather(*(one(i) for i in range(n)))
        async with client.stream("GET", f"/stream/{tag}", params={"n": n}) as answer:
            assert b"".join([part async for part in answer.aiter_bytes()]) == lines(tag, n)
        try:
            await client.get("/slow", timeout=0.05)
        except httpx.TimeoutException:
            pass
        else:
            raise AssertionError("no timeout")


async def http_aiohttp(url: str, tag: str, n: int = 10) -> None:
    timeout = aiohttp.ClientTimeout(20)
    async with aiohttp.ClientSession(url, timeout=timeout, connector=aiohttp.TCPConnector(limit=5)) as session:
        async def one(i: int) -> None:
            body = f"{tag}-{i}".encode() * (1 + 1000 * (i % 7))
            async with session.post(f"/echo/{tag}.{i}", data=body) as answer:
                assert await answer.read() == f"{tag}.{i}:".encode() + body

        await asyncio.gather(*(one(i) for i in range(n)))
        async with session.get(f"/stream/{tag}", params={"n": str(n)}) as answer:
            assert await answer.read() == lines(tag, n)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.05):
                await session.get("/slow")
            raise AssertionError("no timeout")
        async with session.ws_connect(f"/chat/{tag}") as socket:
            for i in range(n):
                await socket.send_str(str(i))
                assert await socket.receive_str() == f"{tag}:{i}"


async def chat(url: str, tag: str, n: int = 20) -> None:
    async with websockets.asyncio.client.connect(f"{url.replace('http', 'ws', 1)}/chat/{tag}") as socket:
        for i in range(n):
            await socket.send(f"{i}" * 100)
        for i in range(n):
            assert await socket.recv() == f"{tag}:" + f"{i}" * 100


async def key_value(path: str, tag: str, n: int = 20) -> None:
    pool = redis.asyncio.BlockingConnectionPool.from_url(f"unix://{path}", max_connections=4, timeout=20)
    async with redis.asyncio.Redis(connection_pool=pool) as client:
        async def one(i: int) -> None:
            await client.set(f"{tag}:{i}", f"{tag}={i}", ex=600)
            assert await client.get(f"{tag}:{i}") == f"{tag}={i}".encode()

        await asyncio.gather(*(one(i) for i in range(n)))
        async with client.pipeline() as batch:
            for i in range(n):
                batch.get(f"{tag}:{i}").delete(f"{tag}:{i}")
            assert (await batch.execute())[::2] == [f"{tag}={i}".encode() for i in range(n)]
        async with client.pubsub() as heard:
            await heard.subscribe(tag)
            assert (await heard.get_message(timeout=10))["type"] == "subscribe"
            await client.publish(tag, "news")
            assert (await heard.get_message(timeout=10))["data"] == b"news"
        assert await client.blpop(f"{tag}:none", timeout=0.05) is None
        assert await client.echo(tag) == tag.encode()
    await pool.disconnect()


async def database(host: str, tag: str, n: int = 20) -> None:
    async with asyncpg.create_pool(host=host, user="treadle", database="postgres", min_size=1, max_size=3) as pool:
        async def one(i: int) -> None:
            assert await pool.fetchval("select $1::text || $2::int", tag, i) == f"{tag}{i}"

        await asyncio.gather(*(one(i) for i in range(n)))
        async with pool.acquire() as connection:
            await connection.execute("create temporary table t (i int, tag text)")
            async with connection.transaction():
                await connection.executemany("insert into t values ($1, $2)", [(i, tag) for i in range(n)])
            with contextlib.suppress(asyncpg.DivisionByZeroError):
                async with connection.transaction():
                    await connection.execute("delete from t")
                    await connection.execute("select 1 / 0")
            rows = await connection.fetch("select * from t order by i")
            assert [tuple(row) for row in rows] == [(i, tag) for i in range(n)]
            async with connection.transaction():
                assert [row["g"] async for row in connection.cursor("select g from generate_series(1, 200) g")] == list(
                    range(1, 201))
            try:
                await connection.fetchval("select pg_sleep(30)", timeout=0.05)
            except TimeoutError:
                pass
            else:
                raise AssertionError("no timeout")
            assert await connection.fetchval("select $1::text", tag) == tag
