"""What a thread does by itself: it thinks, calls tools, gives many items away, and is taken over."""

from __future__ import annotations

from shanty_cli import fan_out
from shanty_cli.text import one_line
from shanty_cli.view.happenings import Happening, happening
from shanty_cli.view.state import RunView, Takeover, ThreadView
from shanty_protocol import FanOutStarted, ModelReplied, ThreadReplied, ThreadTakenOver, ToolReturned
from shanty_protocol.ids import parent_thread


def taken_over(thread: ThreadView, entry: ThreadTakenOver) -> tuple[Happening, ...]:
    takeover = Takeover(entry.at_ms, thread.writer, one_line(entry.by, 60))
    thread.takeovers.append(takeover)
    thread.writer = takeover.after
    thread.status, thread.doing = "working", "goes on where it was left"
    before = takeover.before or "a worker that wrote nothing"
    return (happening(thread, entry, "taken_over", f"taken over by {takeover.after} from {before}"),)


def model_replied(thread: ThreadView, entry: ModelReplied) -> tuple[Happening, ...]:
    thread.turns += 1
    thread.asked.update(str(block.get("id")) for block in entry.blocks if block.get("type") == "tool_use")
    names = [str(block.get("name", "")) for block in entry.blocks if block.get("type") == "tool_use"]
    waits = "wait_for_replies" in names
    thread.status = "waiting" if waits else "working"
    thread.doing = "waits for replies" if waits else one_line(listed(names), 60) or "speaks"
    return (happening(thread, entry, "model", one_line(listed(names)) or "said its last word"),)


def listed(names: list[str]) -> str:
    """Names in the order they came, each once, with how often: `delegate ×4, wait_for_replies`."""
    return ", ".join(
        name if names.count(name) == 1 else f"{name} ×{names.count(name)}" for name in dict.fromkeys(names)
    )


def tool_returned(thread: ThreadView, entry: ToolReturned) -> tuple[Happening, ...]:
    thread.asked.add(entry.call_id)
    if thread.fan_outs.pop(entry.call_id, None) is not None:
        thread.progress = ""
    thread.status, thread.doing = "working", one_line(f"read {entry.name}", 60)
    name = one_line(entry.name, 60)
    match entry.status:
        case "ok":
            return (happening(thread, entry, "tool", f"{name} returned"),)
        case "error":
            return (happening(thread, entry, "tool", f"{name} failed: {one_line(entry.content)}"),)
        case "unknown":
            return (happening(thread, entry, "tool", f"{name}: nobody knows whether it was carried out"),)


def fanned_out(thread: ThreadView, entry: FanOutStarted) -> tuple[Happening, ...]:
    fan = thread.fan_outs[entry.call_id] = fan_out.begun(entry)
    thread.status, thread.doing, thread.progress = "waiting", "waits for replies", one_line(fan.text)
    said = f"{fan.items} items for {one_line(fan.specialist, 60)}, {fan.at_most} at a time"
    return (happening(thread, entry, "fanned_out", said),)


def item_replied(view: RunView, thread: ThreadView, entry: ThreadReplied) -> tuple[Happening, ...]:
    """One item of many is done, if that is what the thread was opened for."""
    parent = view.threads.get(parent_thread(thread.thread) or "")
    for fan in parent.fan_outs.values() if parent else ():
        if thread.thread in fan.item_of:
            assert parent is not None
            told = fan_out.replied(fan, thread.thread, entry.outcome.status)
            parent.progress = one_line(fan.text)
            return (happening(parent, entry, "progress", parent.progress),) if told else ()
    return ()
