"""What is named can be read, byte for byte; a version is made once; memory stays bounded."""

from __future__ import annotations

import asyncio
import hashlib
import tracemalloc
from collections.abc import AsyncIterator

import msgspec
import pytest

from shanty_protocol import ChunkAddress, FileAddress, FileVersion
from shanty_protocol.codec import encode
from shanty_protocol.streams import CHUNK_BYTES
from shanty_runtime.bus import Bus, EmbeddedServer
from shanty_runtime.bus.jetstream import manage, publish
from shanty_runtime.errors import EditConflict, FileMissing, WorkspaceError
from shanty_runtime.tools.workspace import FileStore, one_part

RUN = "0-run"
MEBIBYTE = 2**20


async def commit(
    bus: Bus, content: bytes, *, base: int = 0, key: str = "k", agent: str = "alpha", path: str = "a/b.txt"
) -> FileVersion:
    store: FileStore = bus.files
    return await store.commit(RUN, path, one_part(content), base_version=base, agent=agent, thread="0-1", key=key)


async def content_of(bus: Bus, version: FileVersion) -> bytes:
    return b"".join([part async for part in bus.files.content(RUN, version)])


async def test_a_file_is_read_back_as_it_was_written(bus: Bus) -> None:
    data = bytes(range(256)) * 4096  # four parts exactly
    version = await commit(bus, data)
    assert (version.path, version.version, version.size_bytes) == ("a/b.txt", 1, len(data))
    assert version.digest == hashlib.sha256(data).hexdigest()
    assert (version.agent, version.thread, version.key) == ("alpha", "0-1", "k")
    assert await bus.files.latest(RUN, "a/b.txt") == version
    assert await content_of(bus, version) == data


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1])
async def test_contents_of_any_size_work(bus: Bus, size: int) -> None:
    version = await commit(bus, b"x" * size)
    assert version.size_bytes == size
    assert await content_of(bus, version) == b"x" * size


async def test_versions_follow_each_other_and_keep_their_authors(bus: Bus) -> None:
    first = await commit(bus, b"one")
    second = await commit(bus, b"two", base=1, key="k2", agent="beta")
    elsewhere = await commit(bus, b"three", key="k3", path="other")
    assert await bus.files.versions(RUN, "a/b.txt") == (first, second)
    assert await bus.files.versions(RUN) == (first, second, elsewhere)
    assert await bus.files.latest(RUN, "a/b.txt") == second
    assert [await content_of(bus, version) for version in (first, second)] == [b"one", b"two"]
    assert await bus.files.latest(RUN, "nothing") is None
    assert await bus.files.versions(RUN, "nothing") == ()


async def test_a_version_somebody_made_first_is_a_conflict(bus: Bus) -> None:
    await commit(bus, b"one")
    await commit(bus, b"two", base=1, key="k2", agent="beta")
    with pytest.raises(EditConflict, match="version 2, written by beta, not 1"):
        await commit(bus, b"mine", base=1, key="k3")
    assert len(await bus.files.versions(RUN)) == 2


async def test_of_many_writers_of_one_version_one_makes_it(bus: Bus) -> None:
    writing = [commit(bus, b"%d" % n, key=f"k{n}", agent=("alpha", "beta")[n % 2]) for n in range(10)]
    outcomes = await asyncio.gather(*writing, return_exceptions=True)
    made = [outcome for outcome in outcomes if isinstance(outcome, FileVersion)]
    assert len(made) == 1
    assert sum(isinstance(outcome, EditConflict) for outcome in outcomes) == 9
    assert await bus.files.versions(RUN) == (made[0],)


async def test_the_same_write_tried_again_gives_the_version_it_made(bus: Bus) -> None:
    first = await commit(bus, b"one")
    assert await commit(bus, b"one") == first
    second = await commit(bus, b"two", base=1, key="k2", agent="beta")
    assert await commit(bus, b"one") == first
    # An edit that is repeated after a crash starts from what it finds, which is its own result.
    assert await commit(bus, b"two", base=2, key="k2", agent="beta") == second
    assert (
        await asyncio.gather(*(commit(bus, b"x", base=2, key="k3") for _ in range(5)))
        == [await bus.files.latest(RUN, "a/b.txt")] * 5
    )


async def test_a_version_that_is_not_there_cannot_be_built_on(bus: Bus) -> None:
    with pytest.raises(FileMissing, match="at version 3"):
        await commit(bus, b"one", base=3)


async def test_a_content_that_is_there_already_is_not_stored_again(bus: Bus) -> None:
    await commit(bus, b"x" * MEBIBYTE)
    before = await manage(bus.connection, "STREAM.INFO.SHANTY_FILES_0")
    await commit(bus, b"x" * MEBIBYTE, path="copy", key="k2")
    after = await manage(bus.connection, "STREAM.INFO.SHANTY_FILES_0")
    assert after["state"]["messages"] == before["state"]["messages"] + 1


async def test_a_content_that_does_not_match_its_digest_is_not_passed_off_as_it(bus: Bus) -> None:
    version = await commit(bus, b"right")
    forged = msgspec.structs.replace(version, digest=hashlib.sha256(b"wrong").hexdigest())
    address = ChunkAddress(RUN, "alpha", forged.digest, 0)
    await publish(bus.connection, address.subject, b"right", {})
    with pytest.raises(WorkspaceError, match="damaged"):
        await content_of(bus, forged)


async def test_a_version_in_somebody_elses_name_is_passed_over(bus: Bus) -> None:
    first = await commit(bus, b"one")
    forged = msgspec.structs.replace(first, version=2, agent="lead", key="forged")
    place = FileAddress(RUN, "beta", first.path, 2)
    await publish(bus.connection, place.subject, encode(forged), {})
    assert await bus.files.versions(RUN) == (first,)
    assert await bus.files.latest(RUN, first.path) == first
    with pytest.raises(WorkspaceError, match=r"version 2 of a/b\.txt is taken"):
        await commit(bus, b"two", base=1, key="k2")


async def test_a_content_whose_parts_are_gone_says_so(bus: Bus) -> None:
    version = await commit(bus, b"x" * MEBIBYTE)
    gone = ChunkAddress(RUN, "alpha", version.digest, 2).subject
    await manage(bus.connection, "STREAM.PURGE.SHANTY_FILES_0", {"filter": gone})
    with pytest.raises(WorkspaceError, match=r"part 2 of a/b\.txt"):
        await content_of(bus, version)


async def test_large_files_pass_through_bounded_memory(bus: Bus) -> None:
    size = 20 * MEBIBYTE

    async def parts() -> AsyncIterator[bytes]:
        for number in range(20):
            yield bytes([number]) * MEBIBYTE

    tracemalloc.start()
    try:
        version = await bus.files.commit(RUN, "large", parts(), base_version=0, agent="alpha", thread="0-1", key="k")
        read = hashlib.sha256()
        async for part in bus.files.content(RUN, version):
            read.update(part)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert version.size_bytes == size
    assert read.hexdigest() == version.digest
    assert peak_bytes < size / 2


async def test_a_write_goes_on_after_a_crash_of_the_server(bus: Bus, server: EmbeddedServer) -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b"a" * MEBIBYTE
        await server.kill9()
        yield b"b" * MEBIBYTE
        starting.append(asyncio.create_task(server.start()))

    starting: list[asyncio.Task[None]] = []
    version = await bus.files.commit(RUN, "a", parts(), base_version=0, agent="alpha", thread="0-1", key="k")
    assert await content_of(bus, version) == b"a" * MEBIBYTE + b"b" * MEBIBYTE
    await starting[0]


async def test_a_reader_that_stops_early_leaves_nothing_running(bus: Bus) -> None:
    version = await commit(bus, b"x" * (4 * MEBIBYTE))
    before = asyncio.all_tasks()
    parts = bus.files.content(RUN, version)
    await anext(parts)
    await parts.aclose()
    assert asyncio.all_tasks() == before
