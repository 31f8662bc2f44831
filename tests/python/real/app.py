# SPDX-License-Identifier: MIT
"""A Starlette application that knows nothing of treadle; uvicorn's --loop does."""

import asyncio
import contextlib

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute

state = {"started": False, "cancelled": 0}


@contextlib.asynccontextmanager
async def lifespan(app):
    state["started"] = True
    yield
    print("lifespan ended", flush=True)


async def hello(request):
    return PlainTextResponse("Hello, World!")


async def loop(request):
    kind = type(asyncio.get_running_loop())
    return PlainTextResponse(f"{kind.__module__}.{kind.__qualname__} {state['started']}")


async def echo(request):
    body = await request.body()
    return PlainTextResponse(request.path_params["tag"].encode() + b":" + body)


async def stream(request):
    n = int(request.query_params["n"])

    async def parts():
        for i in range(n):
            yield f"{request.path_params['tag']} {i}\n".encode() * 50
            await asyncio.sleep(0)

    return StreamingResponse(parts(), media_type="text/plain")


async def slow(request):
    try:
        await asyncio.sleep(float(request.query_params.get("s", "30")))
    except asyncio.CancelledError:
        state["cancelled"] += 1
        raise
    return PlainTextResponse("slow")


async def chat(websocket):
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(f"{websocket.path_params['tag']}:{text}")


app = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/", hello),
        Route("/loop", loop),
        Route("/echo/{tag}", echo, methods=["POST"]),
        Route("/stream/{tag}", stream),
        Route("/slow", slow),
        WebSocketRoute("/chat/{tag}", chat),
    ],
)
