"""What models have replied to is found in the journals of a run: the very requests that they were sent."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from shanty_protocol import EntryAddress, ModelReplied, ThreadCompacted, Usage
from shanty_protocol.headers import CHAIN
from shanty_protocol.ids import LOG
from shanty_runtime.archive import SUFFIX, ArchiveWriter
from shanty_runtime.bus import Stored
from shanty_runtime.bus.jetstream import RawMessage
from shanty_runtime.bus.journals import written
from shanty_runtime.config import Settings
from shanty_runtime.errors import ConfigError, ModelError
from shanty_runtime.models.base import Message, ModelRequest
from shanty_runtime.models.replay import Recorded, ReplayModel, digests
from shanty_runtime.profiles import open_model
from shanty_runtime.team import Team, load_team
from shanty_runtime.thread.decide import Draft
from shanty_runtime.thread.dialogue import text_block
from shanty_runtime.worker.asking import SUMMARISE
from shanty_runtime.worker.replies import recorded_replies
from support.crew import TEAMS
from support.player import RUN, SPECIALIST, Player, Use


def stored_by(player: Player) -> list[Stored]:
    """The journal, chained, and the mail that was sent to it."""
    found: list[Stored] = []
    before = ""
    for mail in player.mail.values():
        sent = written(mail.address, mail.entry)
        found.append(Stored(mail.address, len(found) + 1, sent.data, sent.headers))
    for address, entry in player.journal:
        made = written(address, entry, before)
        before = made.own
        found.append(Stored(address, len(found) + 1, made.data, made.headers))
    return found


def replies_of(player: Player) -> list[Recorded]:
    return recorded_replies(player.profile, stored_by(player))


def asked_with(player: Player, *more: Message) -> tuple[str, ...]:
    """What the next request of the thread would be known by."""
    return tuple(digests([*player.state.dialogue.next_messages(), *more]))


@pytest.fixture
def alpha() -> Player:
    player = Player(SPECIALIST, "0-1")
    player.opened_by("lead", "0")
    player.go_on()
    return player


def test_each_reply_is_found_with_all_that_led_up_to_it(alpha: Player, use: Use) -> None:
    first = asked_with(alpha)
    alpha.model(use("t1", "look", text="a"))
    alpha.returned("t1", "look", "the mast")
    second = asked_with(alpha)
    alpha.model(use("t2", "submit_result", summary="a mast"))
    alpha.go_on()
    found = replies_of(alpha)
    assert [(each.agent, each.thread, each.said) for each in found] == [
        ("alpha", "0-1", first),
        ("alpha", "0-1", second),
    ]
    assert found[1].reply.blocks == (use("t2", "submit_result", summary="a mast"),)


def test_what_came_in_while_a_reply_was_being_made_is_no_part_of_its_question(alpha: Player, use: Use) -> None:
    asked, shown = asked_with(alpha), alpha.state.next_n
    alpha.follow_up("lead", "0", "and the stern")
    alpha.go_on()
    assert alpha.state.next_n > shown and asked_with(alpha) != asked
    alpha.model(use("t1", "look", text="a"), shown=shown)
    assert [each.said for each in replies_of(alpha)] == [asked]


def test_a_summary_is_found_whether_or_not_something_came_in_while_it_was_being_made(alpha: Player, use: Use) -> None:
    alpha.model(use("t1", "look", text="a"))
    alpha.returned("t1", "look", "the mast")
    asking = Message("user", (text_block(SUMMARISE),))
    before = asked_with(alpha, asking)
    alpha.follow_up("lead", "0", "and the stern")
    alpha.go_on()
    after = asked_with(alpha, asking)
    made = ThreadCompacted(at_ms=2, summary="a mast", keep_messages=0, model="test", usage=Usage(output_tokens=2))
    alpha.write(Draft(LOG, made))
    summaries = [each for each in replies_of(alpha) if each.reply.blocks == (text_block("a mast"),)]
    assert {each.said for each in summaries} == {before, after}


def test_a_journal_is_read_up_to_its_first_gap(alpha: Player, use: Use) -> None:
    alpha.model(use("t1", "look", text="a"))
    alpha.returned("t1", "look", "the mast")
    alpha.model(use("t2", "submit_result", summary="a mast"))
    gone = [each for each in stored_by(alpha) if not (each.address.thread == "0-1" and each.address.n == 2)]
    assert len(recorded_replies(alpha.profile, gone)) == 1


# From a file


@pytest.fixture(scope="module")
def team() -> Team:
    return load_team(TEAMS / "hello")


def archived(file: Path, messages: list[Stored]) -> Path:
    with ArchiveWriter(file, RUN) as writer:
        for each in messages:
            writer.entry(RawMessage(each.address.subject, each.seq, each.data, each.headers))
    return file


def reading(file: Path, player: Player, team: Team) -> ReplayModel:
    settings = Settings(model=f"replay:{file}")
    model = open_model(team, team.lead, settings, player.profile)
    assert isinstance(model, ReplayModel)
    return model


async def test_an_archive_is_replayed_and_says_what_is_not_in_it(
    alpha: Player, use: Use, team: Team, tmp_path: Path
) -> None:
    said = ModelRequest(
        agent="alpha", thread="0-1", system="s", messages=tuple(alpha.state.dialogue.next_messages()), tools=()
    )
    alpha.model(use("t1", "submit_result", summary="a mast"))
    file = archived(tmp_path / f"run{SUFFIX}", stored_by(alpha))
    model = reading(file, alpha, team)
    assert (await model.reply(said)).blocks == (use("t1", "submit_result", summary="a mast"),)
    other = msgspec.structs.replace(said, messages=(Message("user", (text_block("something else"),)),))
    with pytest.raises(ModelError, match=r"no reply for turn 1 of alpha .* with the goal, the files and the team"):
        await model.reply(other)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda data: data[: len(data) // 2], "cannot be read"),
        (lambda data: data[:-1], "cannot be read"),
        (lambda data: b"\x1f\x8b" + b"no such thing" * 9, "cannot be read"),
    ],
)
def test_a_file_that_is_not_whole_is_not_replayed(
    alpha: Player, team: Team, tmp_path: Path, damage: object, said: str
) -> None:
    file = archived(tmp_path / f"run{SUFFIX}", stored_by(alpha))
    assert callable(damage)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ConfigError, match=f"nothing can be replayed from {file}.*{said}"):
        reading(file, alpha, team)


def test_an_entry_that_is_not_what_was_written_is_named(alpha: Player, use: Use, team: Team, tmp_path: Path) -> None:
    alpha.model(use("t1", "look", text="the mast"))
    messages = stored_by(alpha)
    newest = messages[-1]
    assert CHAIN in newest.headers
    messages[-1] = Stored(newest.address, newest.seq, newest.data.replace(b"mast", b"cask"), newest.headers)
    file = archived(tmp_path / f"run{SUFFIX}", messages)
    told = rf"line {len(messages) + 1}: {newest.address.subject} is not what was written; .shanty verify {file}"
    with pytest.raises(ConfigError, match=told):
        reading(file, alpha, team)


def test_a_run_of_another_team_is_not_replayed(alpha: Player, team: Team, tmp_path: Path) -> None:
    file = archived(tmp_path / f"run{SUFFIX}", stored_by(alpha))
    alpha.mail = {
        subject: msgspec.structs.replace(mail, entry=msgspec.structs.replace(mail.entry, team="pirates"))
        for subject, mail in alpha.mail.items()
    }
    theirs = archived(tmp_path / f"theirs{SUFFIX}", stored_by(alpha))
    reading(file, alpha, team)
    with pytest.raises(ConfigError, match="it is a run of team pirates"):
        reading(theirs, alpha, team)


def test_a_journal_that_this_team_cannot_have_written_is_not_replayed(
    alpha: Player, use: Use, team: Team, tmp_path: Path
) -> None:
    at = EntryAddress(LOG, RUN, "0-1", "alpha", len(alpha.journal))
    asks = use("t1", "cancel", thread="0-1-7", mode="abort")
    entry = ModelReplied(at_ms=1, blocks=(asks,), stop_reason="tool_use", model="test")
    alpha.journal.append((at, entry))
    file = archived(tmp_path / f"run{SUFFIX}", stored_by(alpha))
    with pytest.raises(
        ConfigError, match=rf"{file} cannot be replayed: entry {at.subject} is not one that this team"
    ):
        reading(file, alpha, team)
