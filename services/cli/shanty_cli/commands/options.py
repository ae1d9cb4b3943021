"""What every command takes, and what several of them read out of a word."""

from __future__ import annotations

import getpass
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from shanty_cli.output import Output
    from shanty_protocol import Budget


@Parameter(name="*")
@dataclass(frozen=True)
class Options:
    """What every command takes."""

    nats_url: Annotated[str, Parameter(env_var="SHANTY_NATS_URL")] = ""
    """Address of the bus. Without it: the one of `shanty dev` in this directory, else one of its own."""
    output: Annotated[Literal["text", "json"], Parameter(name=["--output", "-o"])] = "text"
    """Form of what goes to stdout; progress and logs go to stderr."""

    def out(self) -> Output:
        from shanty_cli.output import Output

        return Output(self.output)


NOTHING_SAID = Options()


def allowance(text: str) -> Budget | None:
    """Limits as they are typed. Raises UsageError."""
    from shanty_cli.exits import UsageError
    from shanty_runtime.agent.budget import parse_allowance

    if not text.strip():
        return None
    try:
        return parse_allowance(text).budget
    except ValueError as error:
        raise UsageError(str(error)) from error


def split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def login() -> str:
    """The name of whoever types."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # nobody is logged in, as in a container
        return "unknown"
