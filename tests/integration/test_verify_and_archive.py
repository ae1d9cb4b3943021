"""A run on the bus is audited, written to a file that is audited and looked at without a bus, and then removed."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from shanty_cli.__main__ import main
from shanty_cli.exits import DONE, FAILED, USAGE
from shanty_protocol import EntryAddress, ToolReturned, codec
from shanty_runtime.archive import SUFFIX, EntryLine, FileLine
from shanty_runtime.bus import Bus, EmbeddedServer
from shanty_runtime.bus.jetstream import RawMessage, publish
from shanty_runtime.verify import audit_of_archive, audit_of_run, read_archive
from support.golden_journals import JOURNALS

RUN = "0-fan-out"
GOLDEN = JOURNALS / "0.2.0" / f"fan-out{SUFFIX}"


class Printed(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Terminal:
    """`shanty` with the test's server as its bus, in a directory that has none of its own."""

    def __init__(self, url: str, capsys: pytest.CaptureFixture[str]) -> None:
        self._url, self._capsys = url, capsys

    async def __call__(self, *arguments: str) -> Printed:
        code = await asyncio.to_thread(main, [*arguments, "--nats-url", self._url])
        out, err = self._capsys.readouterr()
        return Printed(code, out, err)


@pytest.fixture
def shanty(server: EmbeddedServer, capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(server.url, capsys)


@pytest.fixture
async def run(bus: Bus) -> str:
    """A run that has ended, as it was stored when it was recorded; the contents of its files are not there."""
    for message in messages_of(GOLDEN):
        await publish(bus.connection, message.subject, message.data, message.headers)
    return RUN


def messages_of(archive: Path) -> list[RawMessage]:
    return [line.message for line in read_archive(archive) if isinstance(line, EntryLine | FileLine)]


async def write_on(bus: Bus) -> str:
    """An entry that nobody has reason to write, after the last one of the lead's journal. Its subject."""
    place = EntryAddress("log", RUN, "0", "lead", len((await bus.journals.read(RUN, "0", "lead")).entries))
    entry = ToolReturned(at_ms=1, call_id="c9", name="pay", content="paid")
    await publish(bus.connection, place.subject, codec.encode(entry), codec.message_headers(entry))
    return place.subject


async def test_a_sound_run_is_said_to_be_and_what_is_wrong_is_named(bus: Bus, run: str, shanty: Terminal) -> None:
    sound = await shanty("verify", run, "-o", "json")
    assert (sound.code, sound.json["sound"], sound.json["first"]) == (DONE, True, None)
    assert "sound" in (await shanty("verify", run, "--all")).out

    contents = await shanty("verify", run, "--contents", "-o", "json")
    assert (contents.code, contents.json["first"]["rule"]) == (FAILED, "file")

    forged = await write_on(bus)
    found = await shanty("verify", run, "-o", "json")
    assert (found.code, found.json["first"]["subject"], found.json["first"]["rule"]) == (FAILED, forged, "effect")
    told = await shanty("verify", run)
    assert f"first  {forged}" in told.out and "nobody has asked for the call c9" in told.out
    assert (await shanty("verify", "0-no-such-run")).code == USAGE


async def test_an_archive_is_looked_at_and_audited_without_a_bus(
    server: EmbeddedServer, run: str, shanty: Terminal, tmp_path: Path
) -> None:
    file = tmp_path / f"{run}{SUFFIX}"
    assert (await shanty("runs", "archive", run, "--to", str(file))).code == DONE
    assert [m.data for m in messages_of(file)] == [m.data for m in messages_of(GOLDEN)]
    again = await shanty("runs", "archive", run, "--to", str(file))
    assert again.code == FAILED and "there is such a file already" in again.err
    await server.stop()

    assert (await shanty("verify", str(file), "-o", "json")).json["sound"]
    assert (await shanty("runs", "show", str(file), "-o", "json")).json["status"] == "completed"
    journal = (await shanty("runs", "journal", str(file), "-o", "json")).json
    assert len(journal) == audit_of_archive(file)[0].entries
    assert {each["subject"].split(".")[4] for each in (await journal_of(shanty, file, "0-1"))} == {"0-1"}
    assert (await shanty("runs", "tail", str(file))).code == DONE

    lines = gzip.decompress(file.read_bytes())
    file.write_bytes(gzip.compress(lines.replace(b"stamp", b"steal", 1)))
    found = await shanty("verify", str(file), "-o", "json")
    assert found.code == FAILED and "not those that were written" in found.json["archive_problem"]
    assert found.json["first"]["seq"] == 1 and found.json["first"]["rule"] == "chain"


async def journal_of(shanty: Terminal, file: Path, thread: str) -> Any:
    return (await shanty("runs", "journal", str(file), "--thread", thread, "-o", "json")).json


async def test_a_run_is_removed_once_all_of_it_is_archived(
    bus: Bus, run: str, shanty: Terminal, tmp_path: Path
) -> None:
    await publish(bus.connection, "shanty.0.log.0-other.0.lead.0", b"{}", {})
    file = str(tmp_path / f"{run}{SUFFIX}")
    done = await shanty("runs", "archive", run, "--to", file, "--delete", "-o", "json")
    assert (done.code, done.json[0]["removed"]) == (DONE, True)
    assert (await audit_of_run(bus, run)).entries == 0 and await bus.files.versions(run) == ()
    assert (await audit_of_run(bus, "0-other")).entries == 1, "nothing of another run is removed"
    assert (await shanty("verify", file)).code == DONE
    again = await shanty("runs", "archive", run, "--to", file, "--delete", "-o", "json")
    assert again.json[0]["removed"], "what was broken off is ended by doing it again"


async def test_a_run_stays_that_its_archive_does_not_hold_all_of(
    bus: Bus, run: str, shanty: Terminal, tmp_path: Path
) -> None:
    file = str(tmp_path / f"{run}{SUFFIX}")
    assert (await shanty("runs", "archive", run, "--to", file)).code == DONE
    await write_on(bus)
    kept = await shanty("runs", "archive", run, "--to", file, "--delete", "-o", "json")
    assert (kept.code, kept.json[0]["removed"]) == (FAILED, False)
    assert kept.json[0]["problem"] == "something was written to it since it was archived"
    unsound = await shanty("runs", "archive", run, "--to", f"{file}.2", "--delete")
    assert unsound.code == FAILED and "is not sound" in unsound.err
    assert (await audit_of_run(bus, run)).entries > 10


async def test_runs_that_ended_before_a_day_are_archived_into_a_folder(
    run: str, shanty: Terminal, tmp_path: Path
) -> None:
    early = await shanty("runs", "archive", "--before", "2020-01-01", "--to", str(tmp_path / "early"))
    assert early.code == DONE and "there is no such run" in early.err
    late = await shanty("runs", "archive", "--before", "2100-01-01", "--to", str(tmp_path / "late"), "-o", "json")
    assert [each["run"] for each in late.json] == [run]
    assert audit_of_archive(tmp_path / "late" / f"{run}{SUFFIX}")[0].is_sound
    assert (await shanty("runs", "archive", run, "--before", "2100-01-01", "--to", "x")).code == USAGE
    assert (await shanty("runs", "archive", "--before", "soon", "--to", str(tmp_path / "x"))).code == USAGE
