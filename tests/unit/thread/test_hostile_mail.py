"""Mail that keeps to the protocol and means harm: whoever sends it and whatever it says, the thread goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shanty_protocol import DelegationSent, EntryAddress, MessageSent, ProtocolError, ThreadReplied, codec
from shanty_runtime.thread.decide import AskPeople, FireTimer, Received, Reject, Step, Write
from support.player import LEAD, RUN, SPECIALIST, Player

GOLDEN = Path(__file__).parents[3] / "protocol" / "golden" / "v1"
ENTRIES = codec.kinds_of(codec.CHANNELS["entries"])
KINDS = sorted(path for path in GOLDEN.glob("*.json") if json.loads(path.read_bytes())["kind"] in ENTRIES)
MOST_STEPS = 50
patiently = settings(
    deadline=None, max_examples=120, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)

SENDERS = [("alpha", "0-1"), ("alpha", "0-9"), ("beta", "0-2"), ("lead", "0"), ("cli", "request-1")]
SENDERS += [("operators", "request-2"), ("stranger", "0-1"), ("specialist", "0-1")]


def use(identity: str, name: str, /, **arguments: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": identity, "name": name, "input": arguments}


def leading() -> Player:
    """A lead that waits for alpha."""
    player = Player(LEAD, "0")
    player.opened_by("cli", "request-1")
    player.go_on()
    player.model(use("t1", "delegate", specialist="alpha", objective="read"), use("t2", "wait_for_replies"))
    player.go_on()
    assert player.state.children["0-1"].owes_reply
    return player


def order_of(player: Player) -> str:
    return next(address.subject for address, entry in player.journal if isinstance(entry, DelegationSent))


def working() -> Player:
    """A specialist that has asked its lead something."""
    player = Player(SPECIALIST, "0-1")
    player.opened_by("lead", "0")
    player.go_on()
    player.model(use("t1", "ask_lead", question="which of the two?"))
    player.go_on()
    return player


def values(player: Player) -> st.SearchStrategy[Any]:
    """What a hostile sender puts where something else belongs: a lot of it names what is really there."""
    names = [player.thread, "0-1", "0-2", "0-1-1", "t1", "t2", "", "ok", "failed", "abort", "follow_up", "answer"]
    names += [subject for subject in player.mail] + [address.subject for address, _ in player.journal]
    numbers = st.sampled_from([0, -1, 1, 2**31, 2**53, 2**63 - 1, -(2**63), 0.5, -1e308, 1e308])
    texts = st.sampled_from([*names, "x" * 5_000, "\x00", "../../etc", "🏴", "9" * 400])
    whole: st.SearchStrategy[Any] = st.sampled_from([None, True, [], {}, [[]], {"a": {"b": []}}, [1] * 100])
    return st.one_of(numbers, texts, texts, whole)


@st.composite
def mutated(draw: st.DrawFn, player: Player) -> bytes:
    """An entry of any kind, addressed to this thread, with a few of its fields changed."""
    tree = json.loads(draw(st.sampled_from(KINDS)).read_bytes())
    if "to_thread" in tree:
        tree["to_thread"] = player.thread
    if "after" in tree:
        tree["after"] = ""
    for _ in range(draw(st.integers(0, 4))):
        replace(tree, draw)(draw(values(player)))
    return json.dumps(tree).encode()


def replace(tree: dict[str, Any], draw: st.DrawFn) -> Callable[[Any], None]:
    """Some place in the tree, which can be set."""
    inside: Any = tree
    while True:
        keys: list[Any] = list(inside) if isinstance(inside, dict) else list(range(len(inside)))
        key = draw(st.sampled_from([each for each in keys if each != "kind"] or ["more"]))
        if isinstance(inside, list) and key == "more":
            return inside.append
        below = inside.get(key) if isinstance(inside, dict) else inside[key]
        if not isinstance(below, (dict, list)) or not below or draw(st.booleans()):
            return lambda value: inside.__setitem__(key, value)
        inside = below


def receive(player: Player, data: bytes, sender: tuple[str, str], n: int) -> None:
    """What a worker does with what was delivered: bytes that are no entry never reach the thread."""
    try:
        entry = codec.decode_entry(data)
    except ProtocolError:
        return
    mail = Received(EntryAddress(player.profile.agent, RUN, sender[1], sender[0], n), entry)
    player.mail[mail.subject] = mail


def settle(player: Player) -> Step:
    """Go on until there is nothing to write or to put away."""
    for _ in range(MOST_STEPS):
        step = player.step()
        match step:
            case Reject():
                del player.mail[step.mail.subject]
            case Write() | AskPeople():
                drafts = step.drafts if isinstance(step, Write) else tuple(player.asked(step))
                for draft in drafts:
                    codec.encode(draft.entry)
                player.write(*drafts)
            case FireTimer():
                player.timer_fired(*step.late)
            case _:
                return step
    raise AssertionError(f"it does not come to rest: {player.kinds[-6:]}")


@pytest.mark.parametrize("situation", [leading, working])
@given(data=st.data())
@patiently
def test_whatever_somebody_sends_is_taken_in_put_away_or_waits(
    situation: Callable[[], Player], data: st.DataObject
) -> None:
    player = situation()
    for n in range(data.draw(st.integers(1, 4))):
        receive(player, data.draw(mutated(player)), data.draw(st.sampled_from(SENDERS)), 100 + n)
    settle(player)
    player.now_ms += 10**9
    settle(player)
    assert player.state.next_n == len(player.journal)


@given(data=st.data())
@patiently
def test_what_strangers_send_changes_nothing_for_those_who_are_waited_for(data: st.DataObject) -> None:
    player = leading()
    for n in range(data.draw(st.integers(1, 4))):
        receive(player, data.draw(mutated(player)), ("stranger", "0-1"), 100 + n)
    settle(player)
    assert not any(mail.address.agent == "stranger" for mail in player.mail.values()), "it is a dead letter"
    player.replied("alpha", "0-1", order_of(player), "this is it")
    settle(player)
    assert not player.state.children["0-1"].owes_reply


def test_the_mail_of_the_tests_above_is_of_kinds_that_threads_take_in() -> None:
    for kind, said in ((ThreadReplied, {"answers": order_of(leading())}), (MessageSent, {"purpose": "progress"})):
        tag = kind.__struct_config__.tag
        data = next(path.read_bytes() for path in KINDS if json.loads(path.read_bytes())["kind"] == tag)
        player = leading()
        tree = {**json.loads(data), "to_thread": "0", "after": "", **said}
        receive(player, json.dumps(tree).encode(), ("alpha", "0-1"), 100)
        assert isinstance(player.step(), Write), tag
