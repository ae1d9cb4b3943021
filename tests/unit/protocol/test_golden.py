"""The bytes of version 1. A file under protocol/golden/v1 never changes: journals hold such bytes for months."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest

from shanty_protocol import (
    AgentCard,
    AgentDraining,
    ApprovalDecided,
    ApprovalRequested,
    ApprovalRuled,
    ApprovalStanding,
    Brief,
    Budget,
    BudgetExhausted,
    BudgetGranted,
    BudgetRequested,
    CancelSent,
    Criterion,
    DelegationSent,
    DeliverableGraded,
    DocumentRelease,
    DocumentVersion,
    EffectAnswered,
    EffectEnded,
    EffectFenced,
    EffectInquired,
    EffectRequested,
    EffectStarted,
    FanOutStarted,
    FileRef,
    FileVersion,
    Finding,
    Grade,
    GradingStarted,
    HiredSpecialist,
    LetterDropped,
    MailReceived,
    MailRejected,
    MailRetried,
    MessageSent,
    ModelFailed,
    ModelReplied,
    Occurrence,
    Outcome,
    ProtocolError,
    QuestionAnswered,
    QuestionAsked,
    ReplyReceived,
    ScheduleArmed,
    SpecialistHired,
    Spent,
    StepStarted,
    TextStreamed,
    ThreadCompacted,
    ThreadDue,
    ThreadFailed,
    ThreadOpened,
    ThreadReplied,
    ThreadResumed,
    ThreadTakenOver,
    ThreadWaiting,
    TimerFired,
    ToolCalled,
    ToolDelayed,
    ToolReturned,
    TriggerFailed,
    Usage,
    codec,
    headers,
)
from shanty_protocol.schema import schemas

GOLDEN = Path(__file__).parents[3] / "protocol" / "golden" / "v1"

DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
BURSTS = FileRef(path="findings/bursts.json", version=2, digest=DIGEST, size_bytes=1843)
SPENT = Usage(input_tokens=1200, output_tokens=310, cache_read_tokens=5400, cache_write_tokens=900)

CERTIFICATES = HiredSpecialist(
    name="certificates",
    role="Reads certificates and says what is wrong with them.",
    instructions="You read certificates. Say who signed each, and until when it holds.",
    tools=("read_file", "search_files"),
    model="haiku",
)

EXAMPLES: tuple[codec.Message, ...] = (
    DelegationSent(
        at_ms=1_795_000_000_123,
        by="lead-7c9d",
        fence=41,
        to_thread="0-1",
        after="shanty.0.logs.0-7f3a.0.lead.2",
        team="incident",
        call_id="toolu_01A09q90qw90lq917835lq9",
        brief=Brief(
            objective="Find out when the error rate of the API rose, and which requests it hit first.",
            input={"path": "logs/api.log", "since": "2026-11-20T14:00:00Z"},
            expected_output="The bursts, with their beginning, their end and the endpoint.",
            guidance="Compare with the hour before.",
            boundaries="Do not look for the cause.",
            effort="high",
            files=("logs/api.log",),
            label="error bursts — api",
            deadline_s=600.0,
        ),
    ),
    DelegationSent(
        at_ms=1_795_000_002_000,
        by="lead-7c9d",
        fence=41,
        to_thread="0-214",
        team="incident",
        call_id="toolu_01G",
        item=203,
        attempt=2,
        brief=Brief(
            objective="Sum the ticket up in one sentence.",
            input={"ticket": "tickets/8841.json"},
            label="tickets 204",
            deadline_s=120.0,
        ),
    ),
    DelegationSent(
        at_ms=1_795_000_003_000,
        by="lead-7c9d",
        fence=41,
        to_thread="0-3",
        team="incident",
        call_id="toolu_01J",
        brief=Brief(
            objective="Say what changed in the hour before.",
            budget=Budget(
                tokens=200_000,
                cost_microusd=1_500_000,
                model_calls=30,
                tool_calls=40,
                threads=4,
                wall_s=900.0,
            ),
        ),
    ),
    DelegationSent(
        at_ms=1_795_000_000_200,
        by="lead-7c9d",
        to_thread="0",
        team="incident",
        brief=Brief(objective='Find the cause of "HighErrorRate" on "orders".', label="alert"),
        occurrence=Occurrence(
            trigger="alert",
            key="8f1c-41",
            due_at_ms=1_795_000_000_000,
            subject="alerts.orders",
            seq=208,
            untrusted=True,
        ),
    ),
    DelegationSent(
        at_ms=1_795_000_000_250,
        by="cli-4711",
        to_thread="0",
        team="incident",
        brief=Brief(
            objective="Why did orders fail?",
            rubric=(
                Criterion(name="cause", description="The cause is named, with the line that shows it."),
                Criterion(name="next step"),
            ),
        ),
    ),
    DelegationSent(
        at_ms=1_795_000_065_000,
        by="lead-7c9d",
        fence=41,
        to_thread="0-5",
        team="incident",
        brief=Brief(objective="Read the certificates.", deadline_s=540.0),
        hired=CERTIFICATES,
        hedges="0-4",
    ),
    MessageSent(
        at_ms=1_795_000_090_000,
        by="lead-7c9d",
        fence=41,
        to_thread="0-1",
        after="shanty.0.logs.0-7f3a.0.lead.3",
        purpose="follow_up",
        text="Is the same burst in the log of the gateway?",
        percent=40,
        call_id="toolu_01B",
    ),
    CancelSent(
        at_ms=1_795_000_055_000,
        by="lead-7c9d",
        fence=41,
        to_thread="0-1",
        after="shanty.0.logs.0-7f3a.0.lead.3",
        mode="wrap_up",
        reason="The cause is found; what the gateway logged does not matter any more.",
        within_s=30.0,
        call_id="toolu_01E",
    ),
    QuestionAsked(
        at_ms=1_795_000_056_000,
        by="logs-5f2b",
        fence=77,
        to_thread="0",
        after="shanty.0.lead.0-7f3a.0-1.logs.2",
        question="Which of the two gateways served the orders?",
        options=("gateway-a", "gateway-b"),
        expires_at_ms=1_795_000_656_000,
        on_behalf_of="shanty.0.logs.0-7f3a.0-1-1.greps.4",
        call_id="toolu_01G",
    ),
    QuestionAnswered(
        at_ms=1_795_000_057_000,
        by="lead-7c9d",
        fence=41,
        to_thread="0-1",
        after="shanty.0.logs.0-7f3a.0.lead.3",
        question="shanty.0.lead.0-7f3a.0-1.logs.3",
        answer="gateway-b, since Tuesday.",
        person="mara",
        call_id="toolu_01H",
    ),
    ApprovalRequested(
        at_ms=1_795_000_058_000,
        by="logs-5f2b",
        fence=77,
        to_thread="inbox",
        after="shanty.0.operators.0-7f3a.0-1.logs.4",
        call_id="toolu_01I",
        name="rotate_logs",
        arguments={"host": "gateway-b", "keep_days": 30},
        digest="0112b7d29005e1dd5304333af7c5011fe32c1c7a9a8e4da540e7627cff8e0282",
        expires_at_ms=1_795_086_458_000,
        policy="team.yaml, permissions: rotate_logs: ask",
    ),
    ApprovalDecided(
        at_ms=1_795_000_059_000,
        by="cli",
        to_thread="0-1",
        after="shanty.0.logs.0-7f3a.say-1.operators.0",
        request="shanty.0.operators.0-7f3a.0-1.logs.5",
        digest="0112b7d29005e1dd5304333af7c5011fe32c1c7a9a8e4da540e7627cff8e0282",
        decision="edit",
        person="mara",
        message="Keep more of them.",
        arguments={"host": "gateway-b", "keep_days": 90},
        arguments_digest="580aa6ac422bd6531ba5b7c68608f94a576b3b434ab63cd8a6be8256280c4d99",
    ),
    ApprovalDecided(
        at_ms=1_795_000_059_500,
        by="cli",
        to_thread="0-2",
        request="shanty.0.operators.0-7f3a.0-2.logs.5",
        digest="e05ced12c1a971e4a2cfd5867559b6110659602cc916d1bc13d5740248550ab8",
        decision="allow_for_thread",
        person="mara",
        for_run=True,
    ),
    ApprovalStanding(
        at_ms=1_795_000_059_500,
        by="cli",
        name="rotate_logs",
        request="shanty.0.operators.0-7f3a.0-2.logs.5",
        person="mara",
    ),
    ApprovalRuled(
        at_ms=1_795_000_061_000,
        by="logs-5f2b",
        fence=77,
        call_id="toolu_01P",
        name="rotate_logs",
        arguments={"host": "gateway-b", "keep_days": 90},
        digest="580aa6ac422bd6531ba5b7c68608f94a576b3b434ab63cd8a6be8256280c4d99",
        rule="keep_days is at least 30",
        standing="shanty.0.log.0-7f3a.standing-48e50500f056c53ab5786a2e740c22dd.operators.0",
    ),
    ThreadWaiting(
        at_ms=1_795_000_058_100,
        by="logs-5f2b",
        fence=77,
        to_thread="0",
        after="shanty.0.lead.0-7f3a.0-1.logs.3",
        since_ms=1_795_000_058_000,
        until_ms=1_795_086_458_000,
    ),
    ThreadResumed(
        at_ms=1_795_000_059_700,
        by="logs-5f2b",
        fence=77,
        to_thread="0",
        after="shanty.0.lead.0-7f3a.0-1.logs.3",
        since_ms=1_795_000_058_000,
    ),
    ThreadReplied(
        at_ms=1_795_000_060_500,
        by="logs-5f2b",
        fence=77,
        consumed=("shanty.0.logs.0-7f3a.0.lead.3",),
        to_thread="0",
        after="shanty.0.lead.0-7f3a.0-1.logs.2",
        answers="shanty.0.logs.0-7f3a.0.lead.3",
        outcome=Outcome(
            status="partial",
            summary="One burst from 14:31:07 to 14:38:50, all of it on POST /orders.",
            result={"bursts": [{"from": "14:31:07", "to": "14:38:50", "endpoint": "POST /orders", "errors": 1804}]},
            files=(BURSTS,),
            code="turn_limit",
        ),
        usage=SPENT,
        cost_microusd=8_410,
    ),
    ThreadReplied(
        at_ms=1_795_000_611_000,
        by="logs-5f2b",
        fence=77,
        to_thread="0",
        outcome=Outcome(status="budget_exhausted", code="token_limit", summary="Three of five files are read."),
        answers="shanty.0.logs.0-7f3a.0.lead.4",
        usage=Usage(input_tokens=150_000, output_tokens=9_112, cache_read_tokens=45_000),
        cost_microusd=811_300,
        spent=Spent(tokens=204_112, cost_microusd=811_300, model_calls=12, tool_calls=19, threads=1),
    ),
    ThreadReplied(
        at_ms=1_795_000_700_000,
        by="lead-7c9d",
        fence=41,
        to_thread="req-19",
        answers="shanty.0.lead.0-7f3a.req-19.ops.0",
        outcome=Outcome(
            status="partial",
            summary="The disk of the database was full.",
            code="not_satisfied",
            grade=Grade(
                verdict="needs_revision",
                round=2,
                rounds=2,
                findings=(
                    Finding(name="cause", met=True, reason="Line 88 of db.log says so."),
                    Finding(name="next step", met=False, reason="Nothing says what to do today."),
                ),
            ),
        ),
    ),
    GradingStarted(
        at_ms=1_795_000_640_000,
        by="lead-7c9d",
        fence=41,
        grader="grader",
        criteria=(
            Criterion(name="cause", description="The cause is named, with the line that shows it."),
            Criterion(name="next step"),
        ),
        round=1,
        rounds=2,
        call_id="toolu_01P",
    ),
    DeliverableGraded(
        at_ms=1_795_000_660_000,
        by="lead-7c9d",
        fence=41,
        grade=Grade(verdict="ungraded", round=1, rounds=2, reason="unreachable: no reply from grader in time"),
        thread="0-6",
    ),
    ThreadOpened(at_ms=1_795_000_001_000, by="logs-5f2b", fence=77, consumed=("shanty.0.logs.0-7f3a.0.lead.3",)),
    ThreadOpened(
        at_ms=1_795_000_000_400,
        by="lead-7c9d",
        fence=41,
        consumed=("shanty.0.lead.0-7f3a.req-19.ops.0",),
        budget=Budget(cost_microusd=10_000_000),
    ),
    ThreadTakenOver(at_ms=1_795_000_031_000, by="logs-91aa", fence=79),
    MailReceived(at_ms=1_795_000_091_000, by="logs-91aa", fence=79, consumed=("shanty.0.logs.0-7f3a.0.lead.5",)),
    ReplyReceived(at_ms=1_795_000_061_000, by="lead-7c9d", fence=41, consumed=("shanty.0.lead.0-7f3a.0-1.logs.4",)),
    ModelReplied(
        at_ms=1_795_000_009_000,
        by="logs-5f2b",
        fence=77,
        blocks=(
            {"type": "text", "text": "The log is large; I mine it first."},
            {"type": "tool_use", "id": "toolu_01C", "name": "mine_logs", "input": {"path": "logs/api.log", "top": 5}},
        ),
        stop_reason="tool_use",
        model="claude-sonnet-5",
        usage=SPENT,
        refused={"toolu_01D": "You may have 32 threads at once; 32 are open. Wait for replies first."},
        cost_microusd=8_410,
    ),
    ModelReplied(
        at_ms=1_795_000_019_000,
        by="logs-5f2b",
        fence=77,
        blocks=({"type": "tool_use", "id": "toolu_01F", "name": "mine_logs", "input": {"path": "logs/gateway.log"}},),
        stop_reason="tool_use",
        model="claude-sonnet-5",
        usage=SPENT,
        shown=7,
    ),
    ModelReplied(
        at_ms=1_795_000_029_000,
        by="lead-7c9d",
        fence=41,
        blocks=(
            {
                "type": "tool_use",
                "id": "toolu_01R",
                "name": "delegate",
                "input": {"specialist": "fixer", "objective": "Restart the gateway."},
            },
        ),
        stop_reason="tool_use",
        model="claude-sonnet-5",
        to_approve={"toolu_01R": "the team's permissions say that lead asks before it delegates to fixer"},
    ),
    ModelFailed(
        at_ms=1_795_000_010_000,
        by="logs-5f2b",
        fence=77,
        failure="overloaded",
        reason="claude-sonnet-5 answered 529 overloaded_error (request req_011CSHoEeqs5C35K2UUqR7Fy)",
        retry_at_ms=1_795_000_013_250,
    ),
    ThreadCompacted(
        at_ms=1_795_000_011_000,
        by="logs-5f2b",
        fence=77,
        summary="The burst began at 14:31:07, all of it on POST /orders; the hour before is quiet.",
        keep_messages=1,
        model="claude-sonnet-5",
        usage=SPENT,
        cost_microusd=8_410,
    ),
    ToolCalled(
        at_ms=1_795_000_009_100,
        by="logs-5f2b",
        fence=77,
        call_id="toolu_01C",
        name="page_on_call",
        arguments={"who": "payments", "urgency": 2, "reason": None},
    ),
    ToolReturned(
        at_ms=1_795_000_012_000,
        by="logs-5f2b",
        fence=77,
        call_id="toolu_01C",
        name="page_on_call",
        content='{"paged":true}',
        status="unknown",
        files=(BURSTS,),
    ),
    ToolCalled(
        at_ms=1_795_000_009_100,
        by="logs-5f2b",
        fence=77,
        call_id="toolu_01C",
        name="page_on_call",
        arguments={"who": "payments"},
        fenced=True,
    ),
    ToolDelayed(
        at_ms=1_795_000_012_300,
        by="logs-5f2b",
        fence=77,
        call_id="toolu_01C",
        name="page_on_call",
        reason="nobody answers on shanty.tool.incident.logs",
    ),
    EffectFenced(
        at_ms=1_795_000_014_000,
        by="toolgateway-1",
        fence=78,
        agent="logs",
        thread="0-1",
        call_id="toolu_01C",
        withdrawn=True,
    ),
    EffectStarted(
        at_ms=1_795_000_014_010,
        by="toolgateway-1",
        fence=78,
        agent="logs",
        thread="0-1",
        call_id="toolu_01C",
        name="page_on_call",
        digest=DIGEST,
    ),
    EffectEnded(
        at_ms=1_795_000_014_900,
        by="toolgateway-1",
        fence=78,
        call_id="toolu_01C",
        status="error",
        content="nobody is on call",
        files=(BURSTS,),
    ),
    EffectRequested(
        run="0-7f3a",
        thread="0-1",
        call_id="toolu_01C",
        name="page_on_call",
        fence=78,
        within_s=4.0,
        arguments={"who": "payments"},
        digest=DIGEST,
        tainted=True,
    ),
    EffectInquired(
        run="0-7f3a",
        thread="0-1",
        call_id="toolu_01C",
        name="page_on_call",
        fence=78,
        within_s=4.0,
        arguments={"who": "payments"},
        digest=DIGEST,
        tainted=True,
        withdraw=True,
    ),
    EffectAnswered(
        status="result",
        content="nobody is on call",
        is_error=True,
        files=(BURSTS,),
        reason="a worker with lease 79 has asked",
    ),
    TimerFired(
        at_ms=1_795_000_600_123,
        by="lead-7c9d",
        fence=43,
        consumed=("shanty.timer.0.due.lead.0-7f3a.0.due",),
        unstarted=("0-2",),
    ),
    BudgetGranted(
        at_ms=1_795_000_620_000,
        by="cli",
        to_thread="0",
        after="shanty.0.lead.0-7f3a.say-1.operators.0",
        budget=Budget(cost_microusd=5_000_000, tokens=500_000),
        reason="Worth it.",
    ),
    BudgetExhausted(
        at_ms=1_795_000_610_000,
        by="logs-5f2b",
        fence=77,
        code="token_limit",
        limits=Budget(tokens=200_000, wall_s=900.0),
        spent=Spent(tokens=204_112, cost_microusd=811_300, model_calls=12, tool_calls=19),
    ),
    BudgetRequested(
        at_ms=1_795_000_615_000,
        by="lead-7c9d",
        fence=41,
        code="cost_limit",
        limits=Budget(cost_microusd=10_000_000),
        spent=Spent(tokens=2_480_001, cost_microusd=10_003_125, model_calls=92, tool_calls=141, threads=6),
    ),
    FanOutStarted(
        at_ms=1_795_000_001_500,
        by="lead-7c9d",
        fence=41,
        call_id="toolu_01G",
        specialist="reader",
        items=1000,
        at_most=64,
        retries=1,
        source=FileRef(path="tickets.jsonl", version=1, digest=DIGEST, size_bytes=88_112),
        refused={"17": "line 18 is not JSON"},
    ),
    SpecialistHired(
        at_ms=1_795_000_002_500,
        by="lead-7c9d",
        fence=41,
        specialist=CERTIFICATES,
        call_id="toolu_01K",
    ),
    ThreadFailed(
        at_ms=1_795_000_700_000,
        by="logs-91aa",
        fence=83,
        code="crash_loop",
        reason="every worker that took the thread died: 5 of 5",
    ),
    ScheduleArmed(
        at_ms=1_795_000_000_000,
        by="lead-7c9d",
        team="incident",
        trigger="nightly",
        schedule="30 2 * * mon-fri",
        timezone="Europe/Berlin",
    ),
    TriggerFailed(
        at_ms=1_795_000_000_300,
        by="lead-7c9d",
        team="incident",
        trigger="alert",
        code="invalid_message",
        reason="the payload is not JSON: it ends in the middle",
        subject="alerts.orders",
        stream="SHANTY_TRIGGERS_incident",
        seq=209,
        traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ),
    MailRejected(
        at_ms=1_795_000_700_500,
        by="logs-91aa",
        mail="shanty.0.logs.0-7f3a.0.lead.9",
        code="unknown_kind",
        reason="the message has a kind this version does not know: budget.granted",
        traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ),
    MailRetried(
        at_ms=1_795_000_800_000,
        by="cli",
        letter="shanty.0.dead.0-7f3a.dead-4711.logs.0",
        mail="shanty.0.logs.0-7f3a.0.lead.9",
        person="ann",
    ),
    LetterDropped(
        at_ms=1_795_000_810_000,
        by="cli",
        letter="shanty.0.dead.0-7f3a.0-1.logs.31",
        reason="The incident is over.",
        person="ann",
    ),
    ThreadDue(at_ms=1_795_000_600_000),
    StepStarted(agent="logs", replica="logs-5f2b", step="tool", name="mine_logs", at_ms=1_795_000_009_100),
    TextStreamed(agent="lead", text="The orders failed because ", offset=128),
    AgentCard(
        agent="logs",
        replica="logs-5f2b",
        role="specialist",
        description="Finds bursts and their beginnings in log files.",
        team="incident",
        model="claude-sonnet-5",
        tools=("mine_logs", "read_file"),
        input_schema={"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]},
        output_schema={"type": "object", "properties": {"bursts": {"type": "array"}}},
        started_at_ms=1_794_999_000_000,
        threads_active=3,
        threads_max=16,
    ),
    AgentCard(
        agent="evidence",
        replica="evidence-77d0",
        role="specialist",
        description="Gathers what logs and metrics say, and weighs it.",
        team="incident",
        model="claude-sonnet-5",
        started_at_ms=1_794_999_000_000,
        threads_max=16,
        specialists=("logs", "metrics"),
    ),
    AgentCard(
        agent="deploys",
        replica="deploys-5d1e",
        role="specialist",
        description="Says what was changed, and when.",
        team="incident",
        started_at_ms=1_794_999_000_000,
        threads_active=1,
        threads_max=16,
        waits_for="the message on shanty.0.log.0-7f3a.0-1.deploys.2 was refused because there is no space",
    ),
    AgentDraining(agent="logs", replica="logs-5f2b"),
    FileVersion(
        path=BURSTS.path,
        version=BURSTS.version,
        digest=BURSTS.digest,
        size_bytes=BURSTS.size_bytes,
        agent="logs",
        thread="0-1",
        key="0-7f3a.0-1.toolu_01E",
        at_ms=1_795_000_020_000,
    ),
    DocumentVersion(
        path="runbooks/orders.md",
        version=4,
        content="# Orders\nAfter a deployment the pool of connections is cold — wait five minutes.\n",
        agent="logs",
        key="0-7f3a.0-1.toolu_01F",
        at_ms=1_795_000_021_000,
        run="0-7f3a",
        thread="0-1",
        base_version=2,
        restored_from=1,
        quarantined=True,
        by="ops@example.com",
    ),
    DocumentRelease(path="runbooks/orders.md", version=4, by="ops@example.com", at_ms=1_795_000_900_000),
)

DECODERS = {
    "entries": codec.decode_entry,
    "timers": codec.decode_timer,
    "live": codec.decode_live,
    "cards": codec.decode_card,
    "files": codec.decode_file_version,
    "memory": codec.decode_memory,
    "tools": codec.decode_effect,
}
CHANNEL_OF = {kind: name for name, channel in codec.CHANNELS.items() for kind in codec.kinds_of(channel)}


def file_name(example: codec.Message) -> str:
    """What a later version added to a kind is in files of their own: `model.replied.2.json`."""
    kind = codec.kind_of(example)
    number = [each for each in EXAMPLES if codec.kind_of(each) == kind].index(example) + 1
    return f"{kind}.json" if number == 1 else f"{kind}.{number}.json"


each_example = pytest.mark.parametrize("example", EXAMPLES, ids=file_name)


def decode(data: bytes, kind: str, received: dict[str, str] | None = None) -> codec.Message:
    return DECODERS[CHANNEL_OF[kind]](data, received)


def golden(example: codec.Message) -> bytes:
    path = GOLDEN / file_name(example)
    assert path.exists(), f"{path.name} is missing; a new kind gets its golden file: {codec.encode(example)!r}"
    return path.read_bytes()


@each_example
def test_golden_bytes_decode_to_the_same_message_and_encode_to_the_same_bytes(example: codec.Message) -> None:
    data = golden(example)
    assert decode(data, codec.kind_of(example), codec.message_headers(example)) == example
    assert codec.encode(example) == data


def test_every_kind_has_a_golden_file_and_every_golden_file_a_kind() -> None:
    kinds = set(CHANNEL_OF)
    assert {codec.kind_of(example) for example in EXAMPLES} == kinds
    assert {path.name for path in GOLDEN.iterdir()} == {file_name(example) for example in EXAMPLES}


def test_a_kind_belongs_to_one_channel() -> None:
    assert sum(len(codec.kinds_of(channel)) for channel in codec.CHANNELS.values()) == len(CHANNEL_OF)
    assert set(DECODERS) == set(codec.CHANNELS)


@pytest.mark.parametrize("kind", CHANNEL_OF)
def test_the_golden_files_set_every_field(kind: str) -> None:
    """So that a renamed field or a changed default shows in them; some fields keep what they are born with."""
    examples = [example for example in EXAMPLES if codec.kind_of(example) == kind]
    told = {field for example in examples for field in msgspec.json.decode(golden(example))} - {"kind"}
    untold = set(type(examples[0]).__struct_fields__) - told
    assert untold <= {"consumed", "protocol_version", "fence", "deleted"}


@each_example
def test_the_headers_say_the_kind_the_body_says(example: codec.Message) -> None:
    said = codec.message_headers(example)
    assert said == {headers.KIND: msgspec.json.decode(golden(example))["kind"], headers.VERSION: "1"}


@each_example
def test_fields_of_a_newer_sender_are_ignored_at_every_depth(example: codec.Message) -> None:
    known = msgspec.json.decode(golden(example))
    newer = msgspec.json.encode(with_future_fields(known, type(example)))
    assert b"field_of_the_future" in newer
    assert decode(newer, codec.kind_of(example)) == example


def with_future_fields(value: Any, struct: Any) -> Any:
    """The same object with a field more, and so in the Structs it is made of; free-form objects stay as they are."""
    extended: dict[str, Any] = {"field_of_the_future": {"deep": [1, None, "x"]}, **value}
    for field in msgspec.structs.fields(struct):
        part = next((part for part in PARTS if str(part.__name__) in str(field.type)), None)
        if field.encode_name in value and part is not None:
            inner = value[field.encode_name]
            several = isinstance(inner, list)
            changed = [with_future_fields(each, part) for each in (inner if several else [inner])]
            extended[field.encode_name] = changed if several else changed[0]
    return extended


PARTS = (Brief, Outcome, Usage, FileRef)


@each_example
def test_a_kind_of_the_future_is_unknown_kind(example: codec.Message) -> None:
    kind = codec.kind_of(example)
    newer = {**msgspec.json.decode(golden(example)), "kind": "kind.of_the_future"}
    with pytest.raises(ProtocolError) as caught:
        decode(msgspec.json.encode(newer), kind)
    assert (caught.value.code, caught.value.detail) == ("unknown_kind", "kind.of_the_future")


@each_example
def test_a_message_of_another_channel_is_unknown_kind(example: codec.Message) -> None:
    for name, decoder in DECODERS.items():
        if name != CHANNEL_OF[codec.kind_of(example)]:
            with pytest.raises(ProtocolError) as caught:
                decoder(golden(example))
            assert caught.value.code == "unknown_kind"


@each_example
def test_a_message_of_a_newer_major_version_is_unsupported(example: codec.Message) -> None:
    newer = {**codec.message_headers(example), headers.VERSION: str(codec.PROTOCOL_VERSION + 1)}
    with pytest.raises(ProtocolError) as caught:
        decode(golden(example), codec.kind_of(example), newer)
    assert caught.value.code == "unsupported_version"


@each_example
def test_a_required_field_less_is_invalid(example: codec.Message) -> None:
    known = msgspec.json.decode(golden(example))
    for field in msgspec.structs.fields(type(example)):
        if field.required:
            less = {name: value for name, value in known.items() if name != field.encode_name}
            with pytest.raises(ProtocolError) as caught:
                decode(msgspec.json.encode(less), codec.kind_of(example))
            assert caught.value.code == "invalid_message"
            assert f"`{field.encode_name}`" in caught.value.detail


@each_example
def test_golden_bytes_validate_against_their_schema_and_no_other(example: codec.Message) -> None:
    value = msgspec.json.decode(golden(example))
    fitting = {name for name, validator in VALIDATORS.items() if validator.is_valid(value)}
    assert fitting == {f"{CHANNEL_OF[codec.kind_of(example)]}.json"}


@each_example
def test_the_schema_wants_what_the_decoder_wants(example: codec.Message) -> None:
    """Take a field away, or make it a wrong type: both say no, or both say yes."""
    kind = codec.kind_of(example)
    validator = VALIDATORS[f"{CHANNEL_OF[kind]}.json"]
    known = msgspec.json.decode(golden(example))
    changed = [{**known, name: wrong} for name in known for wrong in (None, True, 1, "x", [], [1], {}, {"a": 1})]
    changed += [{other: value for other, value in known.items() if other != name} for name in known]
    for value in changed:
        assert validator.is_valid(value) is decodes(msgspec.json.encode(value), kind), value


def decodes(data: bytes, kind: str) -> bool:
    try:
        decode(data, kind)
    except ProtocolError:
        return False
    return True


VALIDATORS = {name: jsonschema_rs.Draft202012Validator(msgspec.json.decode(text)) for name, text in schemas().items()}
