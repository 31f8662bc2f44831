# SPDX-License-Identifier: MIT
"""Real programs, unchanged, on treadle's loop: servers under load, and clients of
real servers."""

import asyncio
import json
import os
import pathlib
import shutil
import signal
import subprocess
import ssl
import sys
import textwrap
import urllib.request

import pytest
import treadle

for name in ("aiohttp", "asyncpg", "httpx", "redis", "starlette", "uvicorn", "websockets"):
    pytest.importorskip(name)

import scenarios  # noqa: E402
import services  # noqa: E402


@pytest.fixture(scope="module")
def start():
    """Starts a service and leaves it running for the module's tests."""
    running = []

    def start(kind, *arguments):
        try:
            service = kind(*arguments)
            running.append(service)
            return service.__enter__()
        except services.NotHere as missing:
            pytest.skip(f"{missing} is not installed")

    yield start
    for service in running:
        service.__exit__()


@pytest.fixture(scope="module")
def uvicorn(start):
    return start(services.Uvicorn)


@pytest.fixture(scope="module")
def web(start):
    return start(services.Aiohttp)


def run(main, factory=treadle.new_event_loop):
    """As a program runs that was told of treadle's loop and nothing else."""
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


def load(url, seconds=1):
    if shutil.which("wrk") is None:
        pytest.skip("wrk is not installed")
    script = os.path.join(os.path.dirname(__file__), "summary.lua")
    done = subprocess.run(["wrk", "-t1", "-c32", f"-d{seconds}s", "-s", script, url + "/"],
                          capture_output=True, text=True, timeout=seconds + 20, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def under_load(server):
    """Many connections at once, of which nothing is left."""
    load(server.url)
    before = server.descriptors()
    result = load(server.url)
    assert result["requests"] > 100
    assert {k: v for k, v in result.items() if k != "requests" and v} == {}
    run(settled(server, before))


async def settled(server, descriptors):
    for _ in range(200):
        if server.descriptors() <= descriptors:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{server.descriptors()} descriptors, {descriptors} before")


def test_uvicorn_loop(uvicorn):
    assert get(uvicorn.url + "/loop") == "treadle._loop.Loop True"


def test_uvicorn_wrk(uvicorn):
    under_load(uvicorn)


def test_aiohttp_wrk(web):
    under_load(web)


@pytest.mark.parametrize("client", ["http_httpx", "http_aiohttp", "chat"])
@pytest.mark.parametrize("server", ["uvicorn", "web"])
def test_http(request, server, client):
    url = request.getfixturevalue(server).url
    run(getattr(scenarios, client)(url, "one"))


def test_redis(start):
    run(scenarios.key_value(start(services.Redis).path, "one"))


def test_postgres(start):
    run(scenarios.database(start(services.Postgres).host, "one"))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    place = tmp_path_factory.mktemp("tls")
    key, cert = place / "key.pem", place / "cert.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert],
                   check=True, capture_output=True)
    return str(key), str(cert)


def test_tls(certificate):
    """uvicorn with a certificate, and httpx, which verifies it."""
    import httpx

    key, cert = certificate

    async def client(url):
        context = ssl.create_default_context(cafile=cert)
        async with httpx.AsyncClient(base_url=url, verify=context, timeout=20) as session:
            for i in range(20):
                body = b"%d" % i * 5000
                answer = await session.post("/echo/tls", content=body)
                assert answer.content == b"tls:" + body

    with services.Uvicorn("--ssl-keyfile", key, "--ssl-certfile", cert) as server:
        assert server.url.startswith("https://")
        run(client(server.url))


def test_aiofastnet(start, uvicorn, certificate):
    """A package that puts transports of its own on any loop, by way of add_reader and add_writer."""
    aiofastnet = pytest.importorskip("aiofastnet")
    key, cert = certificate

    async def over_tls():
        """Both ends in this loop."""

        async def answer(reader, writer):
            while line := await reader.readline():
                writer.write(line.upper())
                await writer.drain()
            writer.close()

        ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        ours.load_cert_chain(cert, key)
        server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=ours)
        async with server:
            port = server.sockets[0].getsockname()[1]

            async def talk(tag):
                theirs = ssl.create_default_context(cafile=cert)
                reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=theirs)
                assert type(writer.transport).__module__.startswith("aiofastnet")
                for i in range(50):
                    writer.write(f"{tag} {i} {'x' * 1000}\n".encode())
                    assert await reader.readline() == f"{tag} {i} {'x' * 1000}\n".upper().encode()
                writer.close()
                await writer.wait_closed()

            await asyncio.gather(*(talk(f"t{n}") for n in range(10)))

    async def main():
        loop = asyncio.get_running_loop()
        assert type(loop) is treadle.Loop
        await scenarios.http_aiohttp(uvicorn.url, "fast")
        await scenarios.chat(uvicorn.url, "fast")
        await scenarios.key_value(start(services.Redis).path, "fast")
        await over_tls()

    run(main(), aiofastnet.loop_factory(treadle.new_event_loop))


def test_uvicorn_ends(start):
    """SIGTERM: what is under way is finished, the application is told, nothing is said of errors."""
    with services.Uvicorn() as server:

        async def main():
            import httpx

            async with httpx.AsyncClient(base_url=server.url, timeout=20) as client:
                asking = asyncio.create_task(client.get("/slow", params={"s": "0.3"}))
                await client.get("/")
                os.kill(server.process.pid, signal.SIGTERM)
                assert (await asking).text == "slow"

        run(main())
        server.process.wait(10)
        said = server.said()
    assert "lifespan ended" in said and "Finished server process" in said
    assert "Traceback" not in said and "ERROR" not in said, said


def test_gunicorn():
    """Two workers, each with a loop of its own, and both end when the master is asked to."""
    pytest.importorskip("uvicorn_worker")
    with services.Gunicorn() as server:
        assert get(server.url + "/loop") == "treadle._loop.Loop True"
        assert server.stop() == 0
        said = server.said()
    assert said.count("lifespan ended") == 2 and "Traceback" not in said, said


def test_run_app(tmp_path):
    """aiohttp's own way to start, with a loop that was made for it, ended by SIGTERM."""
    (tmp_path / "main.py").write_text(textwrap.dedent("""
        import asyncio, os, signal, sys
        import aiohttp, treadle
        from aiohttp import web

        async def hello(request):
            asyncio.get_running_loop().call_later(0.01, os.kill, os.getpid(), signal.SIGTERM)
            return web.Response(text=type(asyncio.get_running_loop()).__module__)

        async def ask():
            async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(sys.argv[1])) as client:
                async with client.get("http://here/") as answer:
                    print(await answer.text(), flush=True)

        async def started(app):
            asyncio.get_running_loop().call_later(0.01, begin)

        def begin():
            if os.path.exists(sys.argv[1]):
                tasks.append(asyncio.ensure_future(ask()))
            else:
                asyncio.get_running_loop().call_later(0.01, begin)

        tasks = []
        app = web.Application()
        app.router.add_get("/", hello)
        app.on_startup.append(started)
        web.run_app(app, path=sys.argv[1], print=None, loop=treadle.new_event_loop())
        print("ended")
        """))
    done = subprocess.run([sys.executable, "main.py", str(tmp_path / "socket")], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("treadle._loop\nended\n", 0), done.stderr
    assert "Traceback" not in done.stderr


def recipe(tmp_path, files, *arguments):
    for name, text in files.items():
        (tmp_path / name).write_text(textwrap.dedent(text))
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments], cwd=tmp_path,
                          capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout


def test_pytest_asyncio(tmp_path):
    """The recipe of docs/python.md."""
    pytest.importorskip("pytest_asyncio")
    status, said = recipe(tmp_path, {
        "conftest.py": """
            import treadle

            def pytest_asyncio_loop_factories():
                return {"treadle": treadle.new_event_loop}
            """,
        "test_it.py": """
            import asyncio, pytest, treadle

            @pytest.mark.asyncio
            async def test_it():
                assert type(asyncio.get_running_loop()) is treadle.Loop
                ch = treadle.Chan(1)
                await ch.send(1)
                assert await treadle.go(ch.recv()) == 1
            """,
    })
    assert status == 0 and "1 passed" in said, said


def test_anyio(tmp_path):
    """The recipes of docs/python.md."""
    status, said = recipe(tmp_path, {
        "test_it.py": """
            import anyio, asyncio, pytest, treadle

            @pytest.fixture
            def anyio_backend():
                return "asyncio", {"loop_factory": treadle.new_event_loop}

            @pytest.mark.anyio
            async def test_it():
                assert type(asyncio.get_running_loop()) is treadle.Loop
                async with anyio.create_task_group() as group:
                    group.start_soon(anyio.sleep, 0.01)

            async def main():
                return type(asyncio.get_running_loop())

            def test_run():
                assert anyio.run(main, backend_options={"loop_factory": treadle.new_event_loop}) is treadle.Loop
            """,
    }, "-p", "anyio")
    assert status == 0 and "2 passed" in said, said


def test_versions():
    """The programs that are tested here are those that the list names."""
    from importlib.metadata import version

    listed = pathlib.Path(__file__).parents[1].joinpath("requirements.txt").read_text().splitlines()
    for line in listed:
        if line and not line.startswith("#"):
            name, _, wanted = line.partition("==")
            assert version(name) == wanted
