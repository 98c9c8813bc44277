"""Work that goes on until something else has failed: both end, and the error is heard."""

from __future__ import annotations

import asyncio

import pytest

from weir.infra.runtime.tasks import until_failed


async def endless(ended: list[str]) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        ended.append("work")


async def failing() -> None:
    raise OSError("work")


def test_work_ends_when_the_other_fails_and_its_error_is_raised() -> None:
    async def main() -> list[str]:
        ended: list[str] = []
        failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.01, failed.set_exception, OSError("other"))
        with pytest.raises(OSError, match="other"):
            await until_failed(endless(ended), failed)
        return ended

    assert asyncio.run(main()) == ["work"]


def test_an_error_of_the_work_is_raised_and_the_other_is_left_alone() -> None:
    async def main() -> bool:
        failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with pytest.raises(OSError, match="work"):
            await until_failed(failing(), failed)
        return failed.done()

    assert not asyncio.run(main())


def test_who_cancels_it_ends_the_work() -> None:
    async def main() -> list[str]:
        ended: list[str] = []
        failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await until_failed(endless(ended), failed)
        return ended

    assert asyncio.run(main()) == ["work"]
