"""How a command ends: its exit code, and a sentence that says what, where and how to mend it.

0    done
1    something failed, or the bus cannot be reached
2    the command was used wrongly, or the team is wrong
3    the run failed
4    the run waits for a person
130  interrupted
"""

from __future__ import annotations

from shanty_runtime.errors import BusUnavailable, ConfigError, DocumentError, ShantyError, TeamError, WorkspaceError

DONE = 0
FAILED = 1
USAGE = 2
RUN_FAILED = 3
WAITS = 4
INTERRUPTED = 130


class UsageError(ShantyError):
    """The command cannot be carried out as it was given."""


class NotRunning(ShantyError):
    """Something that has to be up is not."""


class Interrupted(ShantyError):
    """Somebody pressed Ctrl-C, or the process was told to end."""


def exit_code(error: ShantyError) -> int:
    match error:
        case UsageError() | TeamError() | ConfigError() | WorkspaceError() | DocumentError():
            return USAGE
        case Interrupted():
            return INTERRUPTED
        case _:
            return FAILED


def sentence(error: ShantyError, nats_url: str = "") -> str:
    """What to print. A bus that does not answer says where it was looked for and how to get one."""
    if isinstance(error, BusUnavailable):
        where = f" (NATS at {nats_url})" if nats_url and nats_url not in str(error) else ""
        return f"{error}{where}; `shanty doctor` looks into it, `shanty dev TEAM` starts a bus and a team here"
    return str(error)
