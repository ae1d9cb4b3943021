from __future__ import annotations

from typing import Any

import msgspec
import pytest

from shanty_cli.__main__ import main
from shanty_cli.demo import Kill, Verdict, cause, first_cause, twice
from shanty_cli.exits import USAGE
from shanty_protocol import EntryAddress, ThreadOpened, ToolReturned
from shanty_protocol.codec import Message, encode
from shanty_runtime.bus import Stored

GOOD = Verdict(
    killed=Kill(thread="0-1", replica="logs-1", pid=7, entries_before=3),
    taken_over_by="logs-2",
    entries_after=9,
    twice=(),
    found="bad_deploy of api",
    truth="bad_deploy of api",
)


def stored(n: int, entry: Message) -> Stored:
    return Stored(EntryAddress("log", "0-r", "0-1", "logs", n), n + 1, encode(entry), {})


def returned(call_id: str) -> ToolReturned:
    return ToolReturned(at_ms=1, call_id=call_id, name="mine", content="")


def test_a_demo_in_which_all_went_as_claimed_has_no_failures() -> None:
    assert GOOD.failures == ()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"killed": None}, "nobody was killed"),
        ({"taken_over_by": ""}, "not taken over"),
        ({"entries_after": 0}, "wrote nothing"),
        ({"twice": ("mine (call-1)",)}, "done twice: mine (call-1)"),
        ({"found": "none"}, "the first cause is none, and it was bad_deploy of api"),
    ],
)
def test_a_demo_that_does_not_show_what_it_claims_says_so(change: dict[str, Any], said: str) -> None:
    fields = {name: getattr(GOOD, name) for name in Verdict.__struct_fields__}
    (failure,) = Verdict(**{**fields, **change}).failures

    assert said in failure


def test_only_a_rehearsal_has_to_give_a_chance_for_the_kill() -> None:
    without = msgspec.structs.replace(GOOD, killed=None, taken_over_by="", entries_after=0)
    by_claude = msgspec.structs.replace(without, rehearsed=False)

    assert any("nobody was killed" in failure for failure in without.failures)
    assert by_claude.failures == ()
    assert msgspec.structs.replace(by_claude, found="none").failures != ()
    assert msgspec.structs.replace(GOOD, rehearsed=False, taken_over_by="").failures != ()


@pytest.mark.parametrize("model", ["claude", "opus", "claude-sonnet-5-5"])
def test_without_a_key_the_demo_with_claude_says_how_to_set_one_before_anything_is_started(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for variable in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL"):
        monkeypatch.delenv(variable, raising=False)
    code = main(["demo", "--model", model])
    said = capsys.readouterr()

    assert (code, said.out) == (USAGE, "")
    assert "set ANTHROPIC_API_KEY" in said.err and len(said.err.splitlines()) == 1


def test_a_result_or_a_mail_that_a_journal_has_twice_is_found() -> None:
    once = [stored(0, ThreadOpened(at_ms=1, consumed=("a",))), stored(1, returned("c1")), stored(2, returned("c2"))]
    again = [*once, stored(3, returned("c1")), stored(4, ThreadOpened(at_ms=1, consumed=("a",)))]

    assert list(twice(once)) == []
    assert sorted(twice(again)) == ["mail a in thread 0-1 of logs", "mine (c1) in thread 0-1"]


def test_the_first_cause_of_a_result() -> None:
    ranked = {"causes": [{"kind": "bad_deploy", "service": "api"}, {"kind": "none", "service": "x"}]}

    assert first_cause(ranked) == "bad_deploy of api"
    assert first_cause({"causes": []}) == cause("none", None) == "none"
    assert first_cause(None) == first_cause({}) == "not said"
