"""`shanty inbox …`: what waits for a person, and what they say to it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from shanty_cli.commands.options import NOTHING_SAID, Options

inbox = App(name="inbox", help="What waits for a person: approvals to decide on, questions to answer.")


@inbox.command(name="ls")
async def inbox_ls(*, options: Options = NOTHING_SAID) -> int:
    """List what waits for a person, in every run."""
    from shanty_cli.dev_bus import Home, readable_bus
    from shanty_cli.inbox import inbox_table, open_requests
    from shanty_runtime.config import read_settings

    out = options.out()
    async with readable_bus(options.nats_url, Home()) as bus:
        requests = await open_requests(bus, read_settings().lanes)
    if out.json:
        out.data(requests)
    elif requests:
        out.show(inbox_table(requests))
    else:
        out.say("nothing waits for a person")
    return 0


@inbox.command(name="show")
async def inbox_show(request: str, /, *, options: Options = NOTHING_SAID) -> int:
    """Show all of an approval or a question: who asks, what exactly, why, and until when.

    Parameters
    ----------
    request
        Its id, or the beginning of it.
    """
    from shanty_cli.dev_bus import Home, readable_bus
    from shanty_cli.inbox import find, open_requests, shown
    from shanty_runtime.config import read_settings

    out = options.out()
    async with readable_bus(options.nats_url, Home()) as bus:
        lanes = read_settings().lanes
        found = await find(bus, lanes, request)
        is_open = found in await open_requests(bus, lanes)
    if out.json:
        out.data(found)
    else:
        out.show(shown(found, is_open=is_open))
    return 0


@inbox.command(name="allow")
async def inbox_allow(
    request: str,
    /,
    *,
    for_thread: Annotated[bool, Parameter(negative="")] = False,
    for_run: Annotated[bool, Parameter(negative="")] = False,
    edit: str = "",
    message: str = "",
    wait: float = 5.0,
    options: Options = NOTHING_SAID,
) -> int:
    """Have a tool call made that waits for approval: once, and with exactly the arguments that are shown.

    Parameters
    ----------
    request
        Its id, or the beginning of it.
    for_thread
        Allow every later call of the same tool in the same thread too, whatever its arguments. Other threads of the
        run go on asking.
    for_run
        Allow every later call of the same tool in any thread of the run too, whatever its arguments. What waits
        already is decided by itself.
    edit
        Arguments to call it with instead, as a JSON object.
    message
        Told to the agent.
    wait
        Seconds to wait for the thread to have read it.
    """
    from shanty_cli.exits import UsageError
    from shanty_cli.inbox import arguments_from

    if edit and (for_thread or for_run):
        later = "--for-run" if for_run else "--for-thread"
        raise UsageError(f"--edit is about this one call and {later} about later ones: give one of them")
    arguments = arguments_from(edit) if edit else None
    decision: Literal["allow", "allow_for_thread", "edit"] = (
        "edit" if edit else "allow_for_thread" if for_thread or for_run else "allow"
    )
    return await _decide(request, decision, message, arguments, wait, options, for_run=for_run)


@inbox.command(name="deny")
async def inbox_deny(
    request: str, /, *, message: str = "", wait: float = 5.0, options: Options = NOTHING_SAID
) -> int:
    """Have a tool call not made that waits for approval.

    Parameters
    ----------
    request
        Its id, or the beginning of it.
    message
        Told to the agent: why not, or what to do instead.
    wait
        Seconds to wait for the thread to have read it.
    """
    return await _decide(request, "deny", message, None, wait, options)


@inbox.command(name="answer")
async def inbox_answer(request: str, text: str, /, *, wait: float = 5.0, options: Options = NOTHING_SAID) -> int:
    """Answer a question.

    Parameters
    ----------
    request
        Its id, or the beginning of it.
    text
        The answer.
    wait
        Seconds to wait for the thread to have read it.
    """
    from shanty_cli.dev_bus import Home, readable_bus
    from shanty_cli.inbox import answer, show_given
    from shanty_runtime.config import read_settings

    out = options.out()
    async with readable_bus(options.nats_url, Home()) as bus:
        return show_given(await answer(bus, read_settings().lanes, request, text, wait), out)


async def _decide(
    request: str,
    decision: Literal["allow", "allow_for_thread", "edit", "deny"],
    message: str,
    arguments: dict[str, Any] | None,
    wait_s: float,
    options: Options,
    *,
    for_run: bool = False,
) -> int:
    from shanty_cli.dev_bus import Home, readable_bus
    from shanty_cli.inbox import decide, show_given
    from shanty_runtime.config import read_settings

    out = options.out()
    async with readable_bus(options.nats_url, Home()) as bus:
        given = await decide(
            bus,
            read_settings().lanes,
            request,
            decision,
            message=message,
            arguments=arguments,
            wait_s=wait_s,
            for_run=for_run,
        )
    return show_given(given, out)
