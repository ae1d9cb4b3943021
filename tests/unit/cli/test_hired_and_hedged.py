"""What people are shown of specialists that were hired, and of threads that have the brief of another."""

from __future__ import annotations

from shanty_cli.report import report
from shanty_protocol import Brief, DelegationSent, FanOutStarted, HiredSpecialist, Outcome, SpecialistHired
from shanty_protocol.ids import HOST
from support.script import Script

BOSUN = HiredSpecialist(name="bosun", role="Knows\nropes.", instructions="You know ropes.", tools=("weigh",))


def delegated(script: Script, thread: str, agent: str, **fields: object) -> None:
    brief = Brief(objective="look at it", label="ropes")
    sent = DelegationSent(at_ms=script.now_ms, to_thread=thread, brief=brief, **fields)  # type: ignore[arg-type]
    script.write("0", "lead", sent, agent)


def test_a_hired_specialist_is_shown_by_its_name_and_marked(script: Script) -> None:
    script.start()
    script.write("0", "lead", SpecialistHired(at_ms=script.now_ms, specialist=BOSUN, call_id="c1"))
    delegated(script, "0-1", HOST, hired=BOSUN)
    script.open("0-1", HOST)
    assert ("0", "hired", "bosun: Knows ropes.; weigh") in script.told
    assert {each.agent for each in script.happenings if each.thread == "0-1"} == {"bosun (hired)"}
    threads = report(script.view)["threads"]
    assert [(each["agent"], each["hired"]) for each in threads] == [("lead", ""), (HOST, "bosun")]


def test_a_second_thread_is_shown_with_the_one_whose_brief_it_has(script: Script) -> None:
    script.start()
    delegated(script, "0-1", "logs")
    delegated(script, "0-2", "logs", hedges="0-1")
    assert ("0-2", "delegated", "ropes, as 0-1, which has not replied") in script.told
    assert [each["hedges"] for each in report(script.view)["threads"]] == ["", "", "0-1"]


def test_an_item_with_two_threads_is_counted_once_by_the_first_reply(script: Script) -> None:
    script.start()
    started = FanOutStarted(at_ms=script.now_ms, call_id="c1", specialist="logs", items=2, at_most=4)
    script.write("0", "lead", started)
    for item, thread in enumerate(("0-1", "0-2")):
        delegated(script, thread, "logs", call_id="c1", item=item)
    delegated(script, "0-3", "logs", call_id="c1", item=0, hedges="0-1")
    fan = script.view.threads["0"].fan_outs["c1"]
    script.reply("0-3", "logs", Outcome(status="ok"), to=("lead", "0"))
    assert fan.text == "logs: 1 of 2 done"
    script.reply("0-1", "logs", Outcome(status="cancelled"), to=("lead", "0"))
    assert fan.text == "logs: 1 of 2 done"
