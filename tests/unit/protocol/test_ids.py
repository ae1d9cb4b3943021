from __future__ import annotations

import pytest

from shanty_protocol import ProtocolError, ids, streams


def test_the_id_of_a_thread_is_its_place_in_the_tree() -> None:
    third = ids.child_thread(ids.ROOT_THREAD, 3)
    first_of_third = ids.child_thread(third, 1)
    assert (third, first_of_third) == ("0-3", "0-3-1")
    assert ids.parent_thread(first_of_third) == third
    assert ids.parent_thread(third) == ids.ROOT_THREAD
    assert ids.parent_thread(ids.ROOT_THREAD) is None
    assert [ids.depth(thread) for thread in (ids.ROOT_THREAD, third, first_of_third)] == [0, 1, 2]


@pytest.mark.parametrize("thread", ["0", "0-1", "0-3-1", "0-1000-20"])
def test_a_place_in_the_tree_is_told_from_a_request_id(thread: str) -> None:
    assert ids.is_agent_thread(thread)


@pytest.mark.parametrize("thread", ["1", "0-0", "0-01", "0-", "00", "req-1", "0-a", "", "0\n"])
def test_a_request_id_is_not_a_place_in_the_tree(thread: str) -> None:
    assert not ids.is_agent_thread(thread)


def test_a_run_lives_in_the_lane_its_id_begins_with() -> None:
    assert ids.lane_of("0-7f3a") == "0"
    assert ids.lane_of("12-7f3a-b") == "12"


@pytest.mark.parametrize("lane", ["", "00", "01", "a", "*", ">", "-1", "1234567890", "0\n"])
def test_a_lane_is_a_number_and_names_its_streams(lane: str) -> None:
    for build in (
        ids.checked_lane,
        streams.entry_stream,
        streams.timer_stream,
        streams.file_stream,
        streams.lane_streams,
    ):
        with pytest.raises(ProtocolError):
            build(lane)


def test_no_two_streams_of_two_lanes_take_the_same_subject() -> None:
    specs = [*streams.lane_streams("0"), *streams.lane_streams("12"), streams.memory_stream()]
    assert len({spec.name for spec in specs}) == 7
    heads = [subject.removesuffix(">") for spec in specs for subject in spec.subjects]
    assert not any(one.startswith(other) for one in heads for other in heads if one is not other)
    feeds = [spec.republish_to for spec in specs if spec.republish_to]
    assert feeds == ["shanty.feed.0.>", "shanty.feed.12.>"]
    # A feed that a stream took in again would go round for ever.
    assert not any(feed.startswith(head) for feed in feeds for head in heads)


def test_what_is_written_once_cannot_be_deleted_or_pushed_out() -> None:
    entries, _, files = streams.lane_streams("0", num_replicas=3)
    for spec in (entries, files, streams.memory_stream(num_replicas=3)):
        assert (spec.max_msgs_per_subject, spec.discard, spec.discard_new_per_subject) == (1, "new", True)
        assert (spec.deny_delete, spec.num_replicas) == (True, 3)


def test_what_runs_have_learnt_does_not_age() -> None:
    assert streams.memory_stream().max_age_s == 0


def test_the_consumers_of_an_agent_are_two_a_lane() -> None:
    mail, timers = streams.agent_consumers("0", "logs")
    assert (mail.name, mail.stream, mail.filter_subject) == ("mail-logs", "SHANTY_0", "shanty.0.logs.>")
    assert (timers.name, timers.stream, timers.filter_subject) == (
        "timers-logs",
        "SHANTY_TIMERS_0",
        "shanty.timer.0.due.logs.>",
    )


@pytest.mark.parametrize("agent", ["", "*", "a.b", "A"])
def test_a_consumer_is_for_one_agent(agent: str) -> None:
    with pytest.raises(ProtocolError):
        streams.agent_consumers("0", agent)
