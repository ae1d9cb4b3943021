"""`shanty say`: people speak to a thread."""

from __future__ import annotations

from shanty_cli.commands.options import NOTHING_SAID, Options


async def say(
    run: str, text: str, /, *, thread: str = "0", wait: float = 5.0, options: Options = NOTHING_SAID
) -> int:
    """Say something to a run's lead, or to one of its specialists. One at work reads it at its next step, and keeps
    what it has; one that has replied takes it as a further question, and replies again.

    Parameters
    ----------
    run
        The run's id.
    text
        What to say.
    thread
        To whom: a thread, such as 0-2.
    wait
        Seconds to wait for the thread to have read it.
    """
    from shanty_cli.dev_bus import Home, readable_bus
    from shanty_cli.lookup import known_run
    from shanty_cli.speak import say as say_it
    from shanty_cli.speak import show
    from shanty_runtime.config import read_settings

    out = options.out()
    async with readable_bus(options.nats_url, Home()) as bus:
        known = await known_run(bus, run, read_settings().lanes)
        show(await say_it(bus, known, thread, text, wait), out)
    return 0
