from __future__ import annotations

import base64
import hashlib
import string
from collections.abc import Callable
from typing import Any, cast

import msgspec
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from shanty_protocol import (
    Address,
    ChunkAddress,
    DocumentAddress,
    EntryAddress,
    FileAddress,
    LiveAddress,
    ProtocolError,
    ReleaseAddress,
    TimerAddress,
    ToolAddress,
    ids,
    subjects,
)

patiently = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

identities = st.text(string.ascii_lowercase + string.digits + "-", min_size=1, max_size=30)
lanes = st.integers(0, 999_999_999).map(str)
runs = st.builds("{}-{}".format, lanes, identities)
numbers = st.integers(0, subjects.MAX_NUMBER)
paths = st.text(st.characters(codec="utf-8"), min_size=1, max_size=60).filter(lambda path: len(path.encode()) <= 400)
digests = st.text("0123456789abcdef", min_size=64, max_size=64)

entry_addresses = st.builds(EntryAddress, identities, runs, identities, identities, numbers)
addresses: st.SearchStrategy[Address] = st.one_of(
    entry_addresses,
    st.builds(TimerAddress, st.sampled_from(["set", "due"]), identities, runs, identities, identities),
    st.builds(FileAddress, runs, identities, paths, numbers),
    st.builds(ChunkAddress, runs, identities, digests, numbers),
    st.builds(DocumentAddress, identities, identities, paths, numbers),
    st.builds(ReleaseAddress, identities, paths, numbers),
    st.builds(LiveAddress, runs, identities, identities),
    st.builds(ToolAddress, identities, identities),
)

EXAMPLES: dict[str, Address] = {
    "shanty.0.logs.0-7f3a.0.lead.4": EntryAddress("logs", "0-7f3a", "0", "lead", 4),
    "shanty.12.log.12-7f3a.0-3-1.logs.0": EntryAddress("log", "12-7f3a", "0-3-1", "logs", 0),
    "shanty.timer.0.set.lead.0-7f3a.0.due": TimerAddress("set", "lead", "0-7f3a", "0", "due"),
    "shanty.timer.0.due.lead.0-7f3a.0.due": TimerAddress("due", "lead", "0-7f3a", "0", "due"),
    "shanty.file.0.0-7f3a.logs.version.nvsw23zonvsa.3": FileAddress("0-7f3a", "logs", "memo.md", 3),
    f"shanty.file.0.0-7f3a.logs.chunk.{'0f' * 32}.7": ChunkAddress("0-7f3a", "logs", "0f" * 32, 7),
    "shanty.memory.incident.logs.version.nvsw23zonvsa.3": DocumentAddress("incident", "logs", "memo.md", 3),
    "shanty.memory.incident.operators.release.nvsw23zonvsa.3": ReleaseAddress("incident", "memo.md", 3),
    "shanty.live.0-7f3a.0-3.logs": LiveAddress("0-7f3a", "0-3", "logs"),
    "shanty.tool.incident.logs": ToolAddress("incident", "logs"),
}


def is_refused(subject: str) -> bool:
    try:
        subjects.parse(subject)
    except ProtocolError as error:
        assert error.code == "invalid_message"
        assert len(str(error)) < 600
        return True
    return False


@pytest.mark.parametrize(("subject", "address"), EXAMPLES.items())
def test_each_address_has_its_subject(subject: str, address: Address) -> None:
    assert address.subject == subject
    assert subjects.parse(subject) == address


@given(address=addresses)
@patiently
def test_every_address_is_read_back_from_its_subject(address: Address) -> None:
    assert subjects.parse(address.subject) == address


@given(
    subject=st.text(max_size=60) | st.lists(st.sampled_from(["shanty", "0", "0-a", "a", "*", ">", ""])).map(".".join)
)
@patiently
def test_whatever_parses_is_its_own_subject(subject: str) -> None:
    if not is_refused(subject):
        assert subjects.parse(subject).subject == subject


@given(address=addresses, data=st.data())
@patiently
def test_one_token_more_or_less_is_another_subject_or_none(address: Address, data: st.DataObject) -> None:
    tokens = address.subject.split(".")
    place = data.draw(st.integers(0, len(tokens) - 1))
    assert is_refused(".".join(tokens[:place] + tokens[place + 1 :]))
    extra = data.draw(st.sampled_from(["0", "a", "set", "version", "", "*", ">"]))
    assert is_refused(".".join([*tokens[:place], extra, *tokens[place:]]))


@given(address=addresses, data=st.data())
@patiently
def test_a_token_that_is_no_id_is_refused_wherever_it_stands(address: Address, data: st.DataObject) -> None:
    tokens = address.subject.split(".")
    place = data.draw(st.integers(0, len(tokens) - 1))
    tokens[place] = data.draw(
        st.sampled_from(
            ["", "*", ">", " ", "a b", "A", "ä", "a_b", "a*", ">a", "a\n", "\x00", "０", "\ud800", "=" * 8]
        )
    )
    assert is_refused(".".join(tokens))


@given(address=addresses, data=st.data())
@patiently
def test_a_letter_in_upper_case_is_refused(address: Address, data: st.DataObject) -> None:
    subject = address.subject
    place = data.draw(st.sampled_from([i for i, letter in enumerate(subject) if letter.isalpha()]))
    assert is_refused(subject[:place] + subject[place].upper() + subject[place + 1 :])


@given(address=addresses)
@patiently
def test_space_around_a_subject_is_refused(address: Address) -> None:
    for subject in (f" {address.subject}", f"{address.subject} ", f"{address.subject}\n", f".{address.subject}"):
        assert is_refused(subject)


@given(address=addresses, other=lanes)
@patiently
def test_the_lane_is_the_one_the_run_lives_in(address: Address, other: str) -> None:
    if isinstance(address, DocumentAddress | ReleaseAddress | ToolAddress):
        return  # what outlives runs is in no lane
    lane = ids.lane_of(address.run)
    assume(other != lane)
    tokens = address.subject.split(".")
    if tokens[1] == "live":
        return  # live events have no lane of their own
    place = 1 if tokens[1] == lane else 2
    assert tokens[place] == lane
    for wrong in (other, f"0{lane}", "", "feed", "*"):
        assert is_refused(".".join([*tokens[:place], wrong, *tokens[place + 1 :]]))


@given(
    address=st.one_of(
        entry_addresses,
        st.builds(FileAddress, runs, identities, paths, numbers),
        st.builds(DocumentAddress, identities, identities, paths, numbers),
        st.builds(ReleaseAddress, identities, paths, numbers),
    )
)
@patiently
def test_a_number_has_one_spelling(address: Address) -> None:
    rest, _, number = address.subject.rpartition(".")
    for wrong in (
        f"0{number}",
        f"+{number}",
        f"-{number}",
        f"{number}.0",
        f"{number}_0",
        f" {number}",
        "１",
        "0x1",
        "1e3",
    ):
        assert is_refused(f"{rest}.{wrong}")
    assert is_refused(f"{rest}.{subjects.MAX_NUMBER + 1}")


@pytest.mark.parametrize("number", [-1, -(10**12), subjects.MAX_NUMBER + 1])
def test_a_number_out_of_range_has_no_subject(number: int) -> None:
    builders: tuple[Callable[[], str], ...] = (
        lambda: EntryAddress("logs", "0-r", "0", "lead", number).subject,
        lambda: EntryAddress("logs", "0-r", "0", "lead", number).feed_subject,
        lambda: EntryAddress("logs", "0-r", "0", "lead", number).guard,
        lambda: FileAddress("0-r", "lead", "a", number).subject,
        lambda: FileAddress("0-r", "lead", "a", number).guard,
        lambda: ChunkAddress("0-r", "lead", "0" * 64, number).subject,
        lambda: DocumentAddress("t", "lead", "a", number).subject,
        lambda: DocumentAddress("t", "lead", "a", number).guard,
        lambda: ReleaseAddress("t", "a", number).subject,
    )
    for build in builders:
        with pytest.raises(ProtocolError, match="is not a number from 0 to"):
            build()


NO_IDS = [
    "",
    "*",
    ">",
    "a.b",
    "a b",
    "A",
    "ä",
    "a_b",
    "a\n",
    "\ud800",
    "a" * (ids.MAX_ID_LENGTH + 1),
    "a" * 1_000_000,
]


@pytest.mark.parametrize("wrong", NO_IDS)
def test_what_is_no_id_has_no_subject(wrong: str) -> None:
    builders: tuple[Callable[[], str], ...] = (
        lambda: EntryAddress(wrong, "0-r", "0", "lead", 0).subject,
        lambda: EntryAddress(wrong, "0-r", "0", "lead", 0).feed_subject,
        lambda: EntryAddress("logs", wrong, "0", "lead", 0).subject,
        lambda: EntryAddress("logs", "0-r", wrong, "lead", 0).guard,
        lambda: EntryAddress("logs", "0-r", "0", wrong, 0).guard,
        lambda: EntryAddress("logs", "0-r", "0", wrong, 0).subject,
        lambda: TimerAddress("set", wrong, "0-r", "0", "due").subject,
        lambda: TimerAddress("set", "lead", "0-r", "0", wrong).subject,
        lambda: TimerAddress(cast(Any, wrong), "lead", "0-r", "0", "due").subject,
        lambda: FileAddress("0-r", wrong, "a", 1).subject,
        lambda: FileAddress(wrong, "lead", "a", 1).guard,
        lambda: ChunkAddress("0-r", wrong, "0" * 64, 0).subject,
        lambda: ChunkAddress("0-r", "lead", wrong, 0).subject,
        lambda: DocumentAddress(wrong, "lead", "a", 1).subject,
        lambda: DocumentAddress("t", wrong, "a", 1).subject,
        lambda: DocumentAddress(wrong, "lead", "a", 1).guard,
        lambda: ReleaseAddress(wrong, "a", 1).subject,
        lambda: subjects.memory_filter(wrong),
        lambda: LiveAddress("0-r", "0", wrong).subject,
        lambda: ToolAddress("incident", wrong).subject,
        lambda: ToolAddress(wrong, "logs").subject,
        lambda: subjects.effect_address("0-r", wrong, "0", "call-1", 0).subject,
        lambda: subjects.mail_filter("0", wrong),
        lambda: subjects.mail_filter(wrong, "logs"),
        lambda: subjects.mail_feed(wrong, "logs"),
        lambda: subjects.mail_feed("0-r", wrong),
        lambda: subjects.timer_filter(wrong, "logs"),
        lambda: subjects.first_entries_filter(wrong),
        lambda: subjects.journal_filter("0-r", wrong, "logs"),
        lambda: subjects.run_filter(wrong),
        lambda: subjects.run_feed(wrong),
        lambda: subjects.run_live(wrong),
        lambda: subjects.versions_filter(wrong),
    )
    for build in builders:
        with pytest.raises(ProtocolError) as caught:
            build()
        assert len(str(caught.value)) < 600


@pytest.mark.parametrize("run", ["r", "0", "0-", "-r", "00-r", "01-r", "a-r", "+1-r", "1234567890-r", "0_r"])
def test_a_run_begins_with_its_lane(run: str) -> None:
    with pytest.raises(ProtocolError):
        ids.lane_of(run)


@given(address=entry_addresses, other=identities)
@patiently
def test_all_recipients_of_a_place_share_its_guard(address: EntryAddress, other: str) -> None:
    elsewhere = EntryAddress(other, address.run, address.thread, address.agent, address.n)
    assert address.guard == elsewhere.guard
    assert matches(address.guard, address.subject)
    next_n = (address.n + 1) % 10**10
    assert not matches(address.guard, EntryAddress(other, address.run, address.thread, address.agent, next_n).subject)


def test_there_is_one_place_for_what_people_say_to_a_request_and_it_is_mail_of_whoever_asked() -> None:
    request = EntryAddress("operators", "0-7f3a", "0-1", "logs", 5)
    place = subjects.decision_address(request)
    assert (place.to, place.run, place.agent, place.n) == ("logs", "0-7f3a", "operators", 0)
    assert place.thread == f"decide-{hashlib.sha256(request.subject.encode()).hexdigest()[:32]}"
    assert subjects.decision_address(msgspec.structs.replace(request, n=6)) != place


@given(address=entry_addresses)
@patiently
def test_an_entry_is_found_by_each_filter_it_belongs_to(address: EntryAddress) -> None:
    lane = ids.lane_of(address.run)
    for found_by in (
        subjects.journal_filter(address.run, address.thread, address.agent),
        subjects.run_filter(address.run),
        subjects.mail_filter(lane, address.to),
    ):
        assert matches(found_by, address.subject)
    assert matches(subjects.run_feed(address.run), address.feed_subject)
    assert matches(subjects.mail_feed(address.run, address.to), address.feed_subject)
    assert matches(subjects.first_entries_filter(lane), address.subject) is (address.thread == "0" and address.n == 0)
    assert subjects.parse_entry(address.feed_subject) == address


def test_other_subjects_are_found_by_their_filters() -> None:
    file = FileAddress("0-r", "logs", "memo.md", 3)
    assert matches(subjects.versions_filter("0-r"), file.subject)
    assert matches(subjects.versions_filter("0-r", "memo.md"), file.subject)
    assert not matches(subjects.versions_filter("0-r", "memo.txt"), file.subject)
    assert matches(file.guard, FileAddress("0-r", "metrics", "memo.md", 3).subject)
    assert not matches(subjects.versions_filter("0-r"), ChunkAddress("0-r", "logs", "0" * 64, 3).subject)
    document, release = DocumentAddress("t", "logs", "memo.md", 3), ReleaseAddress("t", "memo.md", 3)
    assert matches(document.guard, DocumentAddress("t", "metrics", "memo.md", 3).subject)
    assert not matches(document.guard, release.subject)
    for fact in (document, release):
        assert matches(subjects.memory_filter("t"), fact.subject)
        assert matches(subjects.memory_filter("t", "memo.md"), fact.subject)
        assert not matches(subjects.memory_filter("t", "memo.txt"), fact.subject)
        assert not matches(subjects.memory_filter("u"), fact.subject)
    assert matches(subjects.timer_filter("0", "lead"), TimerAddress("due", "lead", "0-r", "0", "due").subject)
    assert not matches(subjects.timer_filter("0", "lead"), TimerAddress("set", "lead", "0-r", "0", "due").subject)
    assert matches(subjects.run_live("0-r"), LiveAddress("0-r", "0-1", "logs").subject)
    assert matches(subjects.tool_filter("incident"), ToolAddress("incident", "logs").subject)
    assert not matches(subjects.tool_filter("incident"), ToolAddress("other", "logs").subject)


def matches(pattern: str, subject: str) -> bool:
    """What a NATS server would say."""
    wanted, tokens = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        wanted, tokens = wanted[:-1], tokens[: len(wanted) - 1] if len(tokens) >= len(wanted) else []
    return len(wanted) == len(tokens) and all(
        want in ("*", token) for want, token in zip(wanted, tokens, strict=True)
    )


@pytest.mark.parametrize(
    "subject",
    [
        "shanty.feed.feed.0.logs.0-r.0.lead.0",
        "shanty.feed.0.logs.0-r.0.lead.00",
        "shanty.feed.1.logs.0-r.0.lead.0",
        "shanty.live.0-r.0.lead",
        "shanty.feed.live.0-r.0.lead",
        "shanty.timer.0.due.lead.0-r.0.due",
        "shanty.feed.timer.0.due.lead.0-r.0.due",
        "shanty.feed.",
        "",
    ],
)
def test_only_the_subject_of_an_entry_is_one(subject: str) -> None:
    with pytest.raises(ProtocolError):
        subjects.parse_entry(subject)


@pytest.mark.parametrize("author", ["logs", "lead", "log", "*", ""])
def test_only_people_release(author: str) -> None:
    assert is_refused(f"shanty.memory.incident.{author}.release.nvsw23zonvsa.3")


def test_the_feed_is_not_an_address() -> None:
    assert is_refused("shanty.feed.0.logs.0-r.0.lead.0")


@given(path=paths)
@patiently
@example("a")
@example("x" * subjects.MAX_PATH_BYTES)
@example("../..//\x00")
def test_any_path_fits_one_token(path: str) -> None:
    token = subjects.path_token(path)
    assert subjects.path_of(token) == path
    assert set(token) <= set(string.ascii_lowercase + "234567")


@given(path=paths)
@patiently
def test_a_path_has_one_token(path: str) -> None:
    token = subjects.path_token(path)
    standard = base64.b32encode(path.encode()).decode()
    wrong = {token.upper(), standard, standard.lower(), f"{token}=", f"={token}", f"{token}aaaaaaaa="}
    spare_bits = len(token) * 5 - len(path.encode()) * 8
    if spare_bits:
        alphabet = string.ascii_lowercase + "234567"
        last = alphabet.index(token[-1])
        wrong |= {token[:-1] + alphabet[last | bits] for bits in range(1, 2**spare_bits)}
    for other in wrong - {token}:
        with pytest.raises(ProtocolError):
            subjects.path_of(other)


@pytest.mark.parametrize(
    "token", ["", "a", "1", "0", "ää", "ſ", "ı", "ß", "a" * 1000, "\ud800", "77777777", "me======"]
)
def test_what_is_not_a_path_in_base32_is_refused(token: str) -> None:
    with pytest.raises(ProtocolError):
        subjects.path_of(token)


@pytest.mark.parametrize("path", ["", "x" * (subjects.MAX_PATH_BYTES + 1), "ä" * subjects.MAX_PATH_BYTES, "\ud800"])
def test_a_path_that_fits_no_token_is_refused(path: str) -> None:
    with pytest.raises(ProtocolError):
        subjects.path_token(path)
    with pytest.raises(ProtocolError):
        _ = FileAddress("0-r", "lead", path, 1).subject


def test_addresses_of_a_journal_are_in_the_order_of_their_places() -> None:
    journal = [EntryAddress("log", "0-r", "0", "lead", n) for n in (10, 9, 0, 1)]
    assert [address.n for address in sorted(journal)] == [0, 1, 9, 10]
