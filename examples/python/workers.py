"""Four workers square a hundred numbers: channels, a scope, async for."""

import treadle


async def main() -> None:
    jobs: treadle.Chan[int] = treadle.Chan(16)
    results: treadle.Chan[int] = treadle.Chan()

    async def worker() -> None:
        async for n in jobs:
            await results.send(n * n)

    async def produce() -> None:
        async with treadle.scope() as s:  # waits; the first error cancels the siblings
            for _ in range(4):
                s.go(worker())
            for i in range(1, 101):
                await jobs.send(i)
            jobs.close()
        results.close()

    treadle.go(produce())
    print(sum([n async for n in results]))  # 338350


if __name__ == "__main__":
    treadle.run(main())  # and: asyncio.run(main(), loop_factory=treadle.new_event_loop)
