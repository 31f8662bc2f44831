# SPDX-License-Identifier: MIT
"""An aiohttp server with the same paths as app.py, on a loop of treadle's."""

import asyncio
import signal

import treadle
from aiohttp import web


async def hello(request):
    return web.Response(text="Hello, World!")


async def echo(request):
    return web.Response(body=request.match_info["tag"].encode() + b":" + await request.read())


async def stream(request):
    response = web.StreamResponse()
    await response.prepare(request)
    for i in range(int(request.query["n"])):
        await response.write(f"{request.match_info['tag']} {i}\n".encode() * 50)
    await response.write_eof()
    return response


async def slow(request):
    await asyncio.sleep(float(request.query.get("s", "30")))
    return web.Response(text="slow")


async def chat(request):
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_str(f"{request.match_info['tag']}:{message.data}")
    return socket


async def main():
    app = web.Application()
    app.add_routes([web.get("/", hello), web.post("/echo/{tag}", echo), web.get("/stream/{tag}", stream),
                    web.get("/slow", slow), web.get("/chat/{tag}", chat)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print("listening on http://%s:%d" % runner.addresses[0][:2])
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    await runner.cleanup()
    print("ended")


with asyncio.Runner(loop_factory=treadle.new_event_loop) as runner:
    runner.run(main())
