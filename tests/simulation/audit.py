"""What has to be true at the end of a schedule: five ledgers, held against each other.

The ledgers of effects and of model calls are kept by those who were called, the journal by the server, the replies
by whoever started the run; the budget is counted from all of them. The engine has a part in none of these.

    I1   nothing that was stored is lost: journals have no gap, and each mail was taken in or put away
    I2   each effect was announced first, with exactly its arguments
    I3   no effect happens twice
    I4   a call that is said to have succeeded has happened
    I5   each mail is taken in once, in the order it was sent, and each question is answered once
    I6   a model is asked again only where the worker that had asked was disturbed
    I7   no more is spent than was granted, and all of it is accounted for
    I8   what needs a person's consent has it first, for exactly these arguments
    I9   a worker acts only while it has the lease, and a takeover is written down
    I10  the run comes to its end, and everybody to rest
    I11  the engine makes no mistake of its own: it logs no error, and every journal can be read
    I12  each entry of a journal names the one before it
    I13  a brief is hedged once, and when one of the two threads has replied the other is stopped (`hedged`)
    I14  what is judged is the answer as its grader says, and is judged so many times at most (`graded`)
    I15  a call of the tool gateway is started once, before it happens, and its journal says what came of it
         (`tool_gateway`)
    I16  whom a lead has hired it knows, and that one has the tools it was hired with (`hired`)
"""

from __future__ import annotations

from collections import Counter, defaultdict

import msgspec

from shanty_protocol import (
    ApprovalDecided,
    ApprovalRequested,
    BudgetGranted,
    CancelSent,
    DelegationSent,
    Entry,
    MailRejected,
    MessageSent,
    ModelFailed,
    ModelReplied,
    ThreadReplied,
    ThreadTakenOver,
    ToolCalled,
    ToolReturned,
    chain,
)
from shanty_protocol.codec import digest_of
from shanty_protocol.ids import TOOL_GATEWAY, is_agent_thread
from shanty_runtime.thread.decide import UNORDERED
from shanty_runtime.thread.fold import fold
from simulation import graded, hedged, hired, tool_gateway
from simulation.kept import Kept
from simulation.ledgers import Effect
from simulation.people import RUN, START
from simulation.team import PROFILES
from simulation.world import World

Journal = tuple[str, str]
"""Its thread and its author."""

ASKS = (DelegationSent, MessageSent)


READ_AGAIN = 4
"""Of so many schedules one has all its journals read again from their beginnings."""


class Violation(msgspec.Struct, frozen=True):
    rule: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.sentence}"


def violations(world: World) -> list[Violation]:
    """All that is wrong with a schedule that was played."""
    audit = Audit(world)
    if not audit.comes_to_an_end():
        return audit.found  # what is still under way can be in no order yet
    audit.nothing_is_lost()
    audit.effects_are_announced()
    audit.effects_happen_once()
    audit.success_is_true()
    audit.mail_is_taken_in_once()
    audit.models_are_asked_once()
    audit.budget_is_kept()
    audit.consent_comes_first()
    audit.only_the_holder_acts()
    audit.no_mistakes()
    audit.journals_are_chained()
    audit.briefs_are_hedged_once()
    audit.answers_are_as_they_were_judged()
    audit.the_tool_gateway_makes_each_call_once()
    audit.the_hired_are_as_they_were_hired()
    return audit.found


class Audit:
    def __init__(self, world: World) -> None:
        self.world = world
        self.found: list[Violation] = []
        self.profiles = world.job.profiles
        self.kept = [Kept(*each) for each in world.entries()]
        self.by_subject = {each.address.subject: each for each in self.kept}
        self.journals: dict[Journal, list[Kept]] = defaultdict(list)
        for each in self.kept:
            self.journals[each.address.thread, each.address.agent].append(each)
        self.consumed: dict[str, list[Kept]] = defaultdict(list)
        for journal in self.journals.values():
            journal.sort(key=lambda one: one.address.n)
            for each in journal:
                for subject in each.entry.consumed:
                    self.consumed[subject].append(each)
        self.disturbed = Counter(each.by.split("-")[0] for each in world.ledgers.disturbances)
        """How often the workers of an agent were, and `all`."""

    def wrong(self, rule: str, sentence: str) -> None:
        self.found.append(Violation(rule, sentence))

    # I10

    def comes_to_an_end(self) -> bool:
        world = self.world
        if world.loop.over:
            return True
        open_mail = {name: each.open for name, each in world.server.consumers.items() if each.open}
        replied = "has replied" if world.people.replied else "has not replied"
        said = f"; it said {world.ledgers.complaints[0]}" if world.ledgers.complaints else ""
        self.wrong("I10", f"{world.ended}: the run {replied}, and there is open mail: {open_mail}{said}")
        return False

    # I1

    def nothing_is_lost(self) -> None:
        for (thread, agent), journal in self.journals.items():
            places = [each.address.n for each in journal]
            if agent in self.profiles and not thread.startswith("dead-") and places != list(range(len(places))):
                self.wrong("I1", f"the journal {thread} of {agent} has a gap: {places}")
        put_away = {each.entry.mail for each in self.kept if isinstance(each.entry, MailRejected)}
        for each in self.kept:
            subject = each.address.subject
            if each.address.to in self.world.job.agents and subject not in self.consumed and subject not in put_away:
                self.wrong("I1", f"mail {subject} was acked, and nobody took it in")

    # I2, I3, I4

    def effects_are_announced(self) -> None:
        intents = {
            f"{RUN}.{each.address.thread}.{each.entry.call_id}": each
            for each in self.kept
            if isinstance(each.entry, ToolCalled)
        }
        for (thread, agent), journal in self.journals.items():
            asked: set[str] = set()
            for each in journal:
                if isinstance(each.entry, ModelReplied):
                    asked |= {block["id"] for block in each.entry.blocks if block["type"] == "tool_use"}
                elif isinstance(each.entry, ToolCalled) and agent != "gamma" and each.entry.call_id not in asked:
                    self.wrong("I2", f"{each.entry.name} {each.entry.call_id} of {thread} was asked for by no model")
        for effect in self.world.ledgers.effects:
            intent = intents.get(effect.key)
            if intent is None or intent.message.at_s > effect.at_s:
                self.wrong("I2", f"{effect.tool} of {effect.key} happened before anybody had announced it")
                continue
            assert isinstance(intent.entry, ToolCalled)
            if (intent.entry.name, intent.entry.arguments) != (effect.tool, effect.arguments):
                self.wrong("I2", f"{effect.tool} of {effect.key} is not what was announced")

    def effects_happen_once(self) -> None:
        for key, times in Counter(effect.key for effect in self.world.ledgers.effects).items():
            if times > 1:
                self.wrong("I3", f"the effect {key} happened {times} times")

    def success_is_true(self) -> None:
        happened = {effect.key for effect in self.world.ledgers.effects}
        returned: Counter[str] = Counter()
        last: dict[tuple[str, str], str] = {}
        for each in self.kept:
            entry = each.entry
            if not isinstance(entry, ToolReturned) or entry.name not in PROFILES["lead"].tools:
                continue
            key = f"{RUN}.{each.address.thread}.{entry.call_id}"
            returned[key] += 1
            last[each.address.thread, entry.call_id] = entry.status
            if entry.status == "ok" and entry.name != "look" and key not in happened:
                self.wrong("I4", f"{entry.name} of {key} is said to have succeeded, and did not happen")
        for key, times in returned.items():
            if times > 1:
                self.wrong("I4", f"what {key} gave was written down {times} times")

    # I5

    def mail_is_taken_in_once(self) -> None:
        for subject, takers in self.consumed.items():
            if len(takers) > 1:
                self.wrong("I5", f"{subject} was taken in {len(takers)} times")
        for (thread, agent), journal in self.journals.items():
            if agent not in self.profiles or not is_agent_thread(thread):
                continue
            heard: dict[tuple[str, str], str] = {}
            answered: list[str] = []
            for each in journal:
                for subject in each.entry.consumed:
                    mail = self.by_subject.get(subject)
                    if mail is None:
                        self.wrong("I5", f"{thread} took in {subject}, which was never stored")
                        continue
                    if isinstance(mail.entry, UNORDERED):
                        continue
                    sender = (mail.address.agent, mail.address.thread)
                    after = getattr(mail.entry, "after", "")
                    if after != heard.get(sender, ""):
                        self.wrong("I5", f"{thread} took in {subject} before {after}")
                    heard[sender] = subject
                if isinstance(each.entry, ThreadReplied):
                    if each.entry.answers in answered:
                        self.wrong("I5", f"{thread} answered {each.entry.answers} twice")
                    answered.append(each.entry.answers)
            asked = [
                each
                for each in self.kept
                if each.address.to == agent
                and getattr(each.entry, "to_thread", "") == thread
                and _asks(each.entry)
                and each.address.agent != "operators"
            ]
            if asked and len(answered) > len(asked):
                self.wrong("I5", f"{thread} was asked {len(asked)} times, and answered {len(answered)} times")
            if asked and asked[-1].address.subject not in answered:
                self.wrong("I5", f"{thread} never answered {asked[-1].address.subject}")
        replies = [reply.answers for reply in self.world.people.replied]
        if replies != [START.subject]:
            self.wrong("I5", f"whoever started the run was answered so: {replies}")

    # I6

    def models_are_asked_once(self) -> None:
        calls = Counter((each.agent, each.thread) for each in self.world.ledgers.model_calls)
        noted: Counter[tuple[str, str]] = Counter()
        stops: Counter[str] = Counter()
        finished: dict[str, list[float]] = defaultdict(list)
        for each in self.kept:
            thread = each.address.thread
            if isinstance(each.entry, (ModelReplied, ModelFailed)):
                noted[each.address.agent, thread] += 1
                if isinstance(each.entry, ModelReplied):
                    finished[thread].append(each.message.at_s)
            stops[thread] += sum(
                isinstance(self.by_subject[subject].entry, (CancelSent, BudgetGranted))
                for subject in each.entry.consumed
                if subject in self.by_subject
            )
        for (agent, thread), times in calls.items():
            allowed = self.disturbed[agent] + self.disturbed["all"] + stops[thread]
            if times - noted[agent, thread] > allowed:
                self.wrong(
                    "I6",
                    f"the model of {thread} was asked {times} times, {noted[agent, thread]} answers are in the "
                    f"journal, and {agent} was disturbed {allowed} times",
                )
        for call in self.world.ledgers.model_calls:
            replies = finished[call.thread]
            if call.turn < len(replies) and replies[call.turn] < call.at_s:
                self.wrong(
                    "I6", f"turn {call.turn} of {call.thread} was paid by {call.by} though its reply was there"
                )

    # I7

    def budget_is_kept(self) -> None:
        paid = Counter(each.address.thread for each in self.kept if isinstance(each.entry, ModelReplied))
        budget = self.world.job.brief.budget
        if budget is not None and budget.model_calls is not None:
            most = budget.model_calls + self.world.ledgers.granted_calls + len(paid)
            if sum(paid.values()) > most:
                self.wrong("I7", f"{sum(paid.values())} model calls were paid, and {most} at most were granted")
        for (thread, agent), journal in self.journals.items():
            if agent not in self.profiles or not is_agent_thread(thread):
                continue
            own, below = 0, Counter[str]()
            for each in journal:
                for subject in each.entry.consumed:
                    mail = self.by_subject[subject].entry if subject in self.by_subject else None
                    if isinstance(mail, ThreadReplied) and mail.spent is not None:
                        below[self.by_subject[subject].address.thread] = mail.spent.model_calls
                if isinstance(each.entry, ModelReplied):
                    own += 1
                if isinstance(each.entry, ThreadReplied) and each.entry.spent is not None:
                    said, least = each.entry.spent.model_calls, own + sum(below.values())
                    if said < least:
                        self.wrong("I7", f"{thread} says that it has spent {said} model calls, and it was {least}")

    # I8

    def consent_comes_first(self) -> None:
        for effect in self.world.ledgers.effects:
            if effect.tool == "sign" and not self._consent(effect):
                self.wrong("I8", f"sign of {effect.key} happened without the consent of a person")

    def _consent(self, effect: Effect) -> bool:
        thread = effect.key.split(".")[1]
        for each in self.kept:
            decided = each.entry
            if not isinstance(decided, ApprovalDecided) or each.message.at_s > effect.at_s:
                continue
            request = self.by_subject[decided.request]
            assert isinstance(request.entry, ApprovalRequested)
            if request.address.thread != thread or decided.decision == "deny":
                continue
            if decided.decision == "allow_for_thread":
                return True
            if f"{RUN}.{thread}.{request.entry.call_id}" != effect.key:
                continue
            agreed = decided.arguments if decided.decision == "edit" else request.entry.arguments
            if digest_of(agreed or {}) == digest_of(effect.arguments):
                return True
        return False

    # I9

    def only_the_holder_acts(self) -> None:
        for begun in self.world.ledgers.begun:
            if not begun.leased:
                self.wrong("I9", f"{begun.by} began {begun.tool} of {begun.key} without the lease")
        for asked in self.world.ledgers.model_calls:
            if not asked.leased:
                self.wrong("I9", f"{asked.by} asked the model of {asked.thread} without the lease")
        for taken in self.world.server.leases_taken:
            agent, _, thread = taken.key.split(".")
            if not taken.after_run_out or agent == TOOL_GATEWAY:  # what it has, a call's journal says by itself
                continue
            written = [
                each
                for each in self.journals.get((thread, agent), [])
                if (each.entry.fence, each.entry.by) == (taken.fence, taken.holder)
                and each.message.at_s >= taken.at_s  # after a crash fences are counted anew
            ]
            if written and not isinstance(written[0].entry, ThreadTakenOver):
                self.wrong("I9", f"{taken.holder} took over {thread}, and did not write it down")

    # I11

    def no_mistakes(self) -> None:
        for said in self.world.ledgers.complaints:
            if "is a dead letter: stale" not in said:
                self.wrong("I11", f"the engine says: {said}")
        for error in self.world.loop.errors:
            self.wrong("I11", f"nobody took an error: {error}")
        if self.world.schedule.seed % READ_AGAIN:
            return
        mails = {each.address.subject: each.entry for each in self.kept}
        for (thread, agent), journal in self.journals.items():
            if agent not in self.profiles or not is_agent_thread(thread):
                continue
            try:
                fold(self.profiles[agent], RUN, thread, ((each.address, each.entry, mails) for each in journal))
            except Exception as error:
                # Whatever it is, a replica that begins with this journal would stumble over it.
                self.wrong("I11", f"the journal {thread} of {agent} cannot be read: {error!r}")

    # I12

    def journals_are_chained(self) -> None:
        for (thread, agent), journal in self.journals.items():
            if agent != TOOL_GATEWAY and (agent not in self.profiles or not is_agent_thread(thread)):
                continue
            before = chain.NOTHING_BEFORE
            for each in journal:
                link = chain.link_of(each.message.headers)
                if link is None or link.before != before:
                    self.wrong("I12", f"entry {each.address.n} of {thread} does not name the one before it")
                    before = chain.own_of(before, each.message.subject, each.message.headers, each.message.data)
                else:
                    before = link.own

    # I13, I14

    def briefs_are_hedged_once(self) -> None:
        for (thread, agent), journal in self.journals.items():
            if agent in self.profiles:
                for problem in hedged.problems(thread, journal, self.by_subject):
                    self.wrong("I13", problem)

    def answers_are_as_they_were_judged(self) -> None:
        if self.profiles["lead"].grading is not None:
            for problem in graded.problems(self.journals["0", "lead"], self.by_subject):
                self.wrong("I14", problem)

    # I15

    def the_tool_gateway_makes_each_call_once(self) -> None:
        if self.profiles["lead"].fences:
            for problem in tool_gateway.problems(RUN, self.kept, self.world.ledgers.effects):
                self.wrong("I15", problem)

    # I16

    def the_hired_are_as_they_were_hired(self) -> None:
        if self.profiles["lead"].hire is not None:
            for problem in hired.problems(self.journals["0", "lead"], self.world.ledgers.effects):
                self.wrong("I16", problem)


def _asks(entry: Entry) -> bool:
    return isinstance(entry, DelegationSent) or (isinstance(entry, MessageSent) and entry.purpose == "follow_up")
