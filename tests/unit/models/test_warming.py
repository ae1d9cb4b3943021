from __future__ import annotations

import asyncio

import pytest

from shanty_runtime.models.warming import Warming


async def test_one_call_goes_ahead_and_the_others_follow_when_its_answer_begins() -> None:
    warming, order = Warming(), []
    answer = asyncio.Event()

    async def first() -> None:
        async with warming.turn("same") as begun:
            order.append("first asks")
            await answer.wait()
            begun()
            order.append("first is answered")

    async def follower() -> None:
        async with warming.turn("same"):
            order.append("follower asks")

    async with asyncio.TaskGroup() as group:
        group.create_task(first())
        followers = [group.create_task(follower()) for _ in range(3)]
        await asyncio.sleep(0)
        async with warming.turn("another"):
            order.append("another asks")
        assert not any(task.done() for task in followers)
        answer.set()
    assert order == ["first asks", "another asks", "first is answered"] + ["follower asks"] * 3
    async with warming.turn("same"):
        order.append("warm")  # nobody has to go ahead any more


async def test_a_call_that_fails_lets_the_others_go() -> None:
    warming = Warming()

    async def fails() -> None:
        async with warming.turn("same"):
            await asyncio.sleep(0)
            raise ConnectionError

    failing = asyncio.create_task(fails())
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        async with warming.turn("same"):
            pass
    with pytest.raises(ConnectionError):
        await failing
