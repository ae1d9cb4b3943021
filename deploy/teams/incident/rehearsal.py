"""Plays the five agents without a paid model: each function decides from the transcript alone.

The specialists look wide first (what is there), then deep (every file), say how far they are, and hand in. Asked
again, they use what they found the first time to choose where to look. The lead surveys, delegates to all four at
once, ranks what comes back, asks again about its best explanation, and writes the memo.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from shanty_runtime.models.rehearsal import Call, Move, Result, Turn, call

from .analysis.changes import ChangeEvent
from .analysis.memo import KIND_NAMES, Complaints, Findings, memo_of, result_of
from .analysis.mining import LogReport, Place
from .analysis.ranking import Evidence, Verdict, rank
from .analysis.series import Change
from .analysis.tickets import TicketReport
from .analysis.times import written

SPECIALISTS = ("logs", "metrics", "deploys", "tickets")
MOST_FILES = 24
"""Files one specialist looks at; of more, the largest."""
FILES_AT_ONCE = 6
FINDINGS_FOR_THE_LEAD = 5
WAIT_S = 900.0

EXPECTED = {
    "bad_deploy": ("fault",),
    "config_change": ("config", "connection", "overload"),
    "dependency_outage": ("connection", "timeout", "crash"),
    "memory_leak": ("memory", "gc"),
    "traffic_surge": ("overload", "timeout"),
    "expired_certificate": ("certificate",),
}
"""What errors point at if an explanation is right."""


# The lead.


def lead(turn: Turn) -> Move:
    survey = latest(turn, "survey_inputs")
    if survey is None:
        return call("survey_inputs")
    threads = {result.value["specialist"]: result.value["thread"] for result in good(turn, "delegate")}
    if not turn.results_of("delegate"):
        return [delegation(name, survey) for name in SPECIALISTS]
    if not threads:
        return call(
            "submit_result", status="failed", summary="No specialist could be asked.", result=result_of(nothing())
        )
    waits = turn.results_of("wait_for_replies")
    if not waits:
        return call("wait_for_replies", threads=sorted(threads.values()), mode="all", deadline_s=WAIT_S)
    verdict = rank(evidence_of(replies(waits[:1])))
    if not turn.results_of("send_to_specialist"):
        questions = follow_up_questions(verdict, threads, replies(waits[:1]), survey)
        if questions:
            return questions
    asked = [result.value["thread"] for result in good(turn, "send_to_specialist")]
    if asked and len(waits) < 2:
        return call("wait_for_replies", threads=sorted(set(asked)), mode="all", deadline_s=WAIT_S)
    findings = findings_of(survey, threads, replies(waits[:1]), replies(waits[1:2]))
    return writing(turn, findings)


def delegation(name: str, survey: dict[str, Any]) -> Call:
    objectives = {
        "logs": "Find out what changed in the logs: when errors rose, in which services, with which "
        "new messages, and "
        "which other services those messages name.",
        "metrics": "Find every series that stepped, grew without end or fell back, with its onset and size.",
        "deploys": "List what was changed by people, by service, type and time, including what was rolled back.",
        "tickets": (
            "Group what customers wrote, find groups that rose above their usual rate, and count the customers."
        ),
    }
    return call(
        "delegate",
        specialist=name,
        objective=objectives[name],
        input={
            "files": survey.get(name, [])[:200],
            "services": survey.get("services", []),
            "year": survey.get("year", 0),
        },
        expected_output="The typed result of your role; each claim with file and line.",
        guidance="Look at every file of your kind before you go deep into one.",
        boundaries="Read only. Do not name a cause: say what you see, since the others see other things.",
        effort="medium",
        files=survey.get(name, [])[:50],
        label=f"{name}: first look",
    )


def follow_up_questions(
    verdict: Verdict, threads: dict[str, str], found: dict[str, dict[str, Any]], survey: dict[str, Any]
) -> list[Call]:
    """What is still worth asking once all have spoken; nothing to those who did not reply."""
    answered = {name for name in threads if has_read_something(found.get(name, {}).get("result") or {})}
    if verdict.onset is None or verdict.until is None:
        if "logs" not in answered:
            return []
        text = (
            "Nothing seems to have got worse. Count the errors of the loudest log over its whole "
            "time, and confirm or deny."
        )
        return [call("send_to_specialist", thread=threads["logs"], message=f"{text}\nhypothesis: none\nservice: ")]
    window = f"begin: {written(verdict.onset - 300)}\nend: {written(verdict.until)}\nonset: {written(verdict.onset)}"
    top = [(cause.kind, cause.service) for cause in verdict.causes[:2]]
    questions = []
    if "logs" in answered and top:
        asked = "\n".join(f"hypothesis: {kind}\nservice: {service}" for kind, service in top)
        kind, service = top[0]
        text = (
            f"What came back points at {KIND_NAMES[kind]} at {service}. Show the lines around the "
            f"onset for {service}, "
            f"and confirm or deny each of these explanations."
        )
        questions.append(call("send_to_specialist", thread=threads["logs"], message=f"{text}\n{asked}\n{window}"))
    if "deploys" in answered:
        service = top[0][1] if top else ""
        text = "Compare the changes with this onset: which lie before it and could explain it, which cannot?"
        message = f"{text}\nhypothesis: change\nservice: {service}\n{window}"
        questions.append(call("send_to_specialist", thread=threads["deploys"], message=message))
    if "tickets" in answered:
        text = "Count the customers who complained between the onset and an hour after the end."
        message = (
            f"{text}\nhypothesis: impact\nservice: \nbegin: {written(verdict.onset)}\nend: "
            f"{written(verdict.until + 3600)}"
        )
        questions.append(call("send_to_specialist", thread=threads["tickets"], message=message))
    return questions


def has_read_something(result: dict[str, Any]) -> bool:
    """Whether a first reply holds anything that a question could build on."""
    return any(result.get(part) for part in ("logs", "changes", "reports"))


def writing(turn: Turn, findings: Findings) -> Move:
    """Both files, then the result. A file that is there already gets a new version."""
    result = result_of(findings)
    contents = {
        "memo.md": memo_of(findings),
        "result.json": msgspec.json.format(msgspec.json.encode(result)).decode() + "\n",
    }
    tried = turn.results_of("write_file")
    done = {each.arguments["path"] for each in tried if not each.is_error}
    attempts = {path: [each for each in tried if each.arguments["path"] == path] for path in contents}
    pending = [path for path in contents if path not in done and len(attempts[path]) < 3]
    if pending:
        return [
            call("write_file", path=path, content=contents[path], base_version=base_version(attempts[path]))
            for path in pending
        ]
    partial = bool(findings.missing)
    return call(
        "submit_result",
        status="partial" if partial else "ok",
        summary=result["summary"],
        result=result,
        files=sorted(done),
    )


def base_version(attempts: Sequence[Result]) -> int:
    """The version a refused write named as the newest one."""
    found = re.search(r"at version (\d+)", str(attempts[-1].value)) if attempts else None
    return int(found[1]) if found else 0


def replies(waits: Iterable[Result]) -> dict[str, dict[str, Any]]:
    """The reply of each specialist in those waits."""
    return {
        reply["specialist"]: reply
        for wait in waits
        if not wait.is_error and isinstance(wait.value, dict)
        for reply in wait.value.get("replies", ())
    }


def evidence_of(found: dict[str, dict[str, Any]], answers: Sequence[dict[str, Any]] = ()) -> Evidence:
    results = {name: found.get(name, {}).get("result") or {} for name in SPECIALISTS}
    return Evidence(
        logs=decoded(results["logs"].get("logs", []), tuple[LogReport, ...], ()),
        metrics=decoded(results["metrics"].get("changes", []), tuple[Change, ...], ()),
        changes=decoded(results["deploys"].get("changes", []), tuple[ChangeEvent, ...], ()),
        tickets=next(iter(decoded(results["tickets"].get("reports", []), tuple[TicketReport, ...], ())), None),
        answers=tuple(answers),
    )


def decoded(value: Any, wanted: Any, otherwise: Any) -> Any:
    """A reply's part as data; what does not fit counts as missing, since a reply is not to be trusted."""
    try:
        return msgspec.convert(value, wanted)
    except msgspec.ValidationError:
        return otherwise


def findings_of(
    survey: dict[str, Any],
    threads: dict[str, str],
    first: dict[str, dict[str, Any]],
    second: dict[str, dict[str, Any]],
) -> Findings:
    answers = (second.get("logs", {}).get("result") or {}).get("answers", [])
    evidence = evidence_of(first, answers)
    counted = (second.get("tickets", {}).get("result") or {}).get("complaints") or {}
    return Findings(
        verdict=rank(evidence),
        evidence=evidence,
        complaints=Complaints(
            tickets=counted.get("tickets", 0),
            customers=tuple(counted.get("customers", ())),
            examples=decoded(counted.get("examples", []), tuple[Place, ...], ()),
        ),
        missing=tuple(missing(survey, threads, first)),
    )


def missing(survey: dict[str, Any], threads: dict[str, str], first: dict[str, dict[str, Any]]) -> list[str]:
    said = []
    for name in SPECIALISTS:
        reply = first.get(name)
        if name not in threads or reply is None:
            said.append(f"The {name} were not looked at: their specialist did not reply.")
        elif name in survey.get("missing", []):
            said.append(f"There were no {name} to look at.")
        elif reply.get("status") not in ("ok", "partial"):
            said.append(f"The {name} were not looked at: {reply.get('status')}. {reply.get('summary', '')}".strip())
        else:
            said += [str(each) for each in (reply.get("result") or {}).get("problems", [])[:3]]
    return said


def nothing() -> Findings:
    return Findings(verdict=Verdict(causes=()), evidence=Evidence(), missing=("No specialist could be asked.",))


# The specialists.


def logs(turn: Turn) -> Move:
    question = open_question(turn)
    if question is not None:
        return logs_again(turn, question)
    survey = latest(turn, "survey_logs")
    if survey is None:
        return call("survey_logs")
    paths = largest(survey.get("logs", []))
    done = [result.arguments["path"] for result in turn.results_of("mine_log")]
    todo = [path for path in paths if path not in done]
    if todo:
        known = {"names": services(turn), "year": year(turn), "begin": survey.get("begin", "")}
        calls = [call("mine_log", path=path, **known) for path in todo[:FILES_AT_ONCE]]
        return [*progress(done, paths, "logs mined"), *calls]
    reports = decoded([result.value for result in good(turn, "mine_log")], tuple[LogReport, ...], ())
    problems = complaints_about(turn, "mine_log") + left_out(survey.get("logs", []), paths)
    if not reports:
        return empty_handed("There is no log in the workspace.", {"logs": [], "problems": problems})
    return call(
        "submit_result",
        status="partial" if problems else "ok",
        summary=summary_of_logs(reports),
        result={"logs": [msgspec.to_builtins(shortened(report)) for report in reports], "problems": problems},
    )


def shortened(report: LogReport) -> LogReport:
    """The strongest findings of each service: the others stay in this agent's own transcript."""
    return msgspec.structs.replace(
        report,
        services=tuple(
            msgspec.structs.replace(service, findings=service.findings[:FINDINGS_FOR_THE_LEAD])
            for service in report.services
        ),
    )


def summary_of_logs(reports: Sequence[LogReport]) -> str:
    rises = sorted(
        (rise.at, service.service, rise.per_min_before, rise.per_min)
        for report in reports
        for service in report.services
        for rise in service.error_rises
    )
    lines = sum(report.lines for report in reports)
    if not rises:
        return f"{lines} lines in {len(reports)} logs; the rate of errors did not rise anywhere."
    said = "; ".join(f"{at} {name}: {before:.3g} -> {after:.3g} a minute" for at, name, before, after in rises[:8])
    return f"{lines} lines in {len(reports)} logs. Errors rose: {said}."


def logs_again(turn: Turn, question: dict[str, list[str]]) -> Move:
    """Look again where the first look found that service and those who name it."""
    mined = decoded([result.value for result in good(turn, "mine_log")], tuple[LogReport, ...], ())
    pairs = list(zip(question.get("hypothesis", []), question.get("service", []), strict=False))
    looked = since_last_reply(turn, "errors_between")
    begin, end = window_of(question, mined)
    if not looked and mined:
        paths = dict.fromkeys(path for _, service in pairs for path in files_about(mined, service))
        paths.update(dict.fromkeys(loudest(mined)))
        names = services(turn)
        calls = [
            call("errors_between", path=path, begin=begin, end=end, names=names, year=year(turn))
            for path in list(paths)[:6]
        ]
        shown = [
            call("log_window", path=file, line=line, before=2, after=6) for file, line in first_lines(mined, pairs)
        ]
        return [call("report_progress", summary="Looking again around the onset", percent=50), *calls, *shown]
    values = [each.value for each in looked if not each.is_error]
    answers = [answer_to(kind, service, values) for kind, service in pairs]
    lines = [
        Place(file=each.value["file"], line=line["line"], text=line["text"][:240])
        for each in since_last_reply(turn, "log_window")
        if not each.is_error
        for line in each.value["lines"]
    ]
    return call(
        "submit_result",
        status="ok",
        summary="; ".join(
            f"{each['kind']} at {each['service']}: {each['answer']}, {each['why']}" for each in answers
        ),
        result={"answers": answers, "lines": msgspec.to_builtins(lines[:20]), "logs": [], "problems": []},
    )


def answer_to(kind: str, service: str, values: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Confirm or deny an explanation from the errors around the onset."""
    own = [value for value in values if service in value["counts"]]
    others = [value for value in values if value["mentions"].get(service)]
    speaking = own if kind not in ("dependency_outage",) else others
    if kind == "expired_certificate":
        speaking = own + others
    total = sum(sum(value["counts"].values()) for value in speaking)
    expected = EXPECTED.get(kind, ())
    fitting = sum(max((value["symptoms"].get(name, 0) for name in expected), default=0) for value in speaking)
    if kind == "none":
        return {
            "kind": kind,
            "service": service,
            "answer": "confirmed",
            "why": "no lasting rise of errors in the loudest logs",
        }
    said = f"{fitting} of {total} warnings and errors point at {' or '.join(expected) or 'it'}"
    if not total:
        verdict, said = "unclear", "there are no errors in the logs that could tell"
    elif fitting >= 0.25 * total:
        verdict = "confirmed"
    elif fitting == 0 and kind in ("expired_certificate",):
        verdict = "denied"
    else:
        verdict = "unclear"
    return {"kind": kind, "service": service, "answer": verdict, "why": said}


def files_about(mined: Sequence[LogReport], service: str) -> list[str]:
    """The files a service writes to, then those in which others name it most."""
    own = [report.file for report in mined if any(each.service == service for each in report.services)]
    naming = sorted(
        (
            (
                -sum(finding.mentions.get(service, 0) for each in report.services for finding in each.findings),
                report.file,
            )
            for report in mined
        ),
    )
    return own[:2] + [file for count, file in naming if count < 0][:3]


def loudest(mined: Sequence[LogReport]) -> list[str]:
    ordered = sorted(mined, key=lambda report: -sum(service.errors for service in report.services))
    return [report.file for report in ordered[:1]]


def first_lines(mined: Sequence[LogReport], pairs: Sequence[tuple[str, str]]) -> list[tuple[str, int]]:
    """Where the errors of the first service in question began, or where it was first named."""
    for _, service in pairs:
        own = [
            rise.first
            for report in mined
            for each in report.services
            if each.service == service
            for rise in each.error_rises
        ]
        naming = [
            finding.first
            for report in mined
            for each in report.services
            for finding in each.findings
            if service in finding.mentions
        ]
        places = [place for place in own + naming if place is not None]
        if places:
            return [(place.file, place.line) for place in places[:2]]
    return []


def window_of(question: dict[str, list[str]], mined: Sequence[LogReport]) -> tuple[str, str]:
    begin, end = question.get("begin", [""])[0], question.get("end", [""])[0]
    starts = [report.at for report in mined if report.at]
    ends = [report.until for report in mined if report.until]
    return begin or min(starts, default="1970-01-01T00:00:00Z"), end or max(ends, default="2100-01-01T00:00:00Z")


def metrics(turn: Turn) -> Move:
    survey = latest(turn, "survey_metrics")
    if survey is None:
        return call("survey_metrics")
    paths = [each["path"] for each in survey.get("metrics", [])][:MOST_FILES]
    done = [result.arguments["path"] for result in turn.results_of("metric_changes")]
    todo = [path for path in paths if path not in done]
    if todo:
        calls = [call("metric_changes", path=path, year=year(turn)) for path in todo[:FILES_AT_ONCE]]
        return [*progress(done, paths, "files of metrics read"), *calls]
    problems = complaints_about(turn, "metric_changes")
    for result in good(turn, "metric_changes"):
        problems += result.value["problems"]
    if not paths:
        return empty_handed("There are no metrics in the workspace.", {"changes": [], "problems": problems})
    changes = [change for result in good(turn, "metric_changes") for change in result.value["changes"]]
    changes.sort(key=lambda change: -change["score"])
    strongest = "; ".join(
        f"{c['at']} {c['metric']} of {c['service']}: {c['shape']} {c['before']:.4g} -> {c['after']:.4g}"
        for c in changes[:6]
    )
    return call(
        "submit_result",
        status="partial" if problems else "ok",
        summary=f"{len(changes)} series changed. The clearest: {strongest}." if changes else "No series changed.",
        result={"changes": changes[:80], "problems": problems[:10]},
    )


def deploys(turn: Turn) -> Move:
    question = open_question(turn)
    if question is not None:
        return deploys_again(turn, question)
    paths = input_files(turn)
    if not paths:
        return empty_handed("There is no list of changes in the workspace.", {"changes": [], "problems": []})
    results = turn.results_of("list_changes")
    if len(results) < len(paths):
        todo = [path for path in paths if path not in {result.arguments["path"] for result in results}]
        return [
            call("report_progress", summary=f"Reading {', '.join(todo[:3])}", percent=30),
            *(call("list_changes", path=path, year=year(turn)) for path in todo),
        ]
    problems = complaints_about(turn, "list_changes")
    for result in good(turn, "list_changes"):
        problems += result.value["problems"]
    changes = [change for result in good(turn, "list_changes") for change in result.value["changes"]]
    changes.sort(key=lambda change: change["at"])
    return call(
        "submit_result",
        status="partial" if problems else "ok",
        summary=f"{len(changes)} changes: "
        + "; ".join(f"{each['at']} {each['type']} of {each['service']}" for each in changes[-8:]),
        result={"changes": changes, "problems": problems[:10]},
    )


def deploys_again(turn: Turn, question: dict[str, list[str]]) -> Move:
    listed = [result.value for result in good(turn, "list_changes")]
    paths = [value["file"] for value in listed if value["count"]]
    compared = since_last_reply(turn, "align_changes")
    onset, service = question.get("onset", [""])[0], question.get("service", [""])[0]
    if not compared and paths:
        return [call("align_changes", path=path, onset=onset, service=service) for path in paths]
    found = [each for result in compared if not result.is_error for each in result.value["aligned"]]
    before = [each for each in found if each["before_onset_s"] >= -60]
    said = "; ".join(each["remark"] for each in before[:4]) or "no change lies before the onset"
    return call(
        "submit_result", status="ok", summary=said, result={"aligned": found[:12], "changes": [], "problems": []}
    )


def tickets(turn: Turn) -> Move:
    question = open_question(turn)
    if question is not None:
        return tickets_again(turn, question)
    survey = latest(turn, "survey_tickets")
    if survey is None:
        return call("survey_tickets")
    paths = [each["path"] for each in survey.get("tickets", [])][:4]
    if not paths:
        return empty_handed("There are no tickets in the workspace.", {"reports": [], "problems": []})
    if not turn.results_of("ticket_groups"):
        return [
            call("report_progress", summary=f"Grouping the tickets of {', '.join(paths)}", percent=40),
            *(call("ticket_groups", path=path, names=services(turn), year=year(turn)) for path in paths),
        ]
    problems = complaints_about(turn, "ticket_groups")
    reports = [result.value for result in good(turn, "ticket_groups")]
    for report in reports:
        problems += report.get("problems", [])
    rose = [group for report in reports for group in report.get("groups", []) if group.get("rose")]
    said = "; ".join(f"{group['at']} {group['in_rise']} about {', '.join(group['words'][:4])}" for group in rose[:4])
    return call(
        "submit_result",
        status="partial" if problems else "ok",
        summary=f"Groups that rose: {said}." if rose else "No group of tickets rose above its usual rate.",
        result={"reports": reports, "problems": problems[:10]},
    )


def tickets_again(turn: Turn, question: dict[str, list[str]]) -> Move:
    paths = [report["file"] for report in (result.value for result in good(turn, "ticket_groups"))]
    counted = [result.value for result in since_last_reply(turn, "complaints") if not result.is_error]
    if not since_last_reply(turn, "complaints") and paths:
        begin, end = question.get("begin", [""])[0], question.get("end", [""])[0]
        return [call("complaints", path=path, begin=begin, end=end, year=year(turn)) for path in paths]
    customers = sorted({name for each in counted for name in each["customers"]})
    total = {
        "tickets": sum(each["tickets"] for each in counted),
        "customers": customers,
        "examples": [place for each in counted for place in each["examples"]][:4],
    }
    return call(
        "submit_result",
        status="ok",
        summary=f"{total['tickets']} complaints from {len(customers)} customers in that time.",
        result={"complaints": total, "reports": [], "problems": []},
    )


# What all of them need from a transcript.


def latest(turn: Turn, name: str) -> dict[str, Any] | None:
    """The newest result of a tool; empty where it failed, None where it was not called yet."""
    value = turn.result(name)
    if isinstance(value, dict):
        return value
    return {} if turn.results_of(name) else None


def good(turn: Turn, name: str) -> list[Result]:
    return [result for result in turn.results_of(name) if not result.is_error]


def complaints_about(turn: Turn, name: str) -> list[str]:
    return [str(result.value)[:200] for result in turn.results_of(name) if result.is_error][:5]


def services(turn: Turn) -> list[str]:
    return list((turn.input or {}).get("services", []))


def year(turn: Turn) -> int:
    return int((turn.input or {}).get("year", 0))


def input_files(turn: Turn) -> list[str]:
    return list((turn.input or {}).get("files", []))[:MOST_FILES]


def largest(files: Sequence[dict[str, Any]]) -> list[str]:
    ordered = sorted(files, key=lambda each: -each["size_bytes"])[:MOST_FILES]
    return sorted(each["path"] for each in ordered)


def left_out(files: Sequence[dict[str, Any]], paths: Sequence[str]) -> list[str]:
    count = len(files) - len(paths)
    return [f"{count} smaller logs were left out"] if count > 0 else []


def progress(done: Sequence[str], paths: Sequence[str], what: str) -> list[Call]:
    percent = 10 + 80 * len(done) // max(len(paths), 1)
    return [call("report_progress", summary=f"{len(done)} of {len(paths)} {what}", percent=percent)]


def empty_handed(sentence: str, result: dict[str, Any]) -> Call:
    return call("submit_result", status="partial", summary=sentence, result=result)


def open_question(turn: Turn) -> dict[str, list[str]] | None:
    """The newest follow-up that is not answered yet, by its `key: value` lines."""
    questions = [text for text in turn.follow_ups if "hypothesis:" in text]
    answered = max(len(good(turn, "submit_result")) - 1, 0)
    if len(questions) <= answered:
        return None
    found: dict[str, list[str]] = {}
    for key, value in re.findall(r"^(\w+):[ \t]*(.*)$", questions[-1], re.MULTILINE):
        found.setdefault(key, []).append(value.strip())
    return found


def since_last_reply(turn: Turn, name: str) -> list[Result]:
    """The results of a tool since this agent last handed something in."""
    results = turn.results
    handed_in = [
        index for index, result in enumerate(results) if result.name == "submit_result" and not result.is_error
    ]
    begin = handed_in[-1] + 1 if handed_in else 0
    return [result for result in results[begin:] if result.name == name]


__all__ = ["deploys", "lead", "logs", "metrics", "tickets"]
