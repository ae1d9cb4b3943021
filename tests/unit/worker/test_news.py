"""Waiting for news beside something else."""

import asyncio

import pytest

from shanty_runtime.worker.news import News


async def test_what_came_before_is_not_waited_for() -> None:
    news = News()
    news.put()
    await asyncio.wait_for(news.wait(), 1)
    assert news.come


async def test_news_ends_the_wait_and_is_told_at_once() -> None:
    news, told = News(), []
    news.tell = lambda: told.append(news.come)
    waiting = asyncio.create_task(news.wait())
    await asyncio.sleep(0)
    news.put()
    assert told == [True]
    await asyncio.wait_for(waiting, 1)


async def test_whoever_is_woken_looks_though_nothing_has_come() -> None:
    news = News()
    waiting = asyncio.create_task(news.wait())
    await asyncio.sleep(0)
    news.wake()
    news.wake()
    await asyncio.wait_for(waiting, 1)
    assert not news.come


async def test_a_wait_ends_when_its_time_is_over() -> None:
    news = News()
    await asyncio.wait_for(news.wait(0.01), 1)
    assert not news.come


async def test_after_a_wait_that_was_cancelled_the_next_one_is_woken() -> None:
    news = News()
    waiting = asyncio.create_task(news.wait())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    again = asyncio.create_task(news.wait())
    await asyncio.sleep(0)
    news.put()
    await asyncio.wait_for(again, 1)


async def test_waking_when_nobody_waits_does_nothing() -> None:
    news = News()
    news.wake()
    waiting = asyncio.create_task(news.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    news.put()
    await asyncio.wait_for(waiting, 1)
