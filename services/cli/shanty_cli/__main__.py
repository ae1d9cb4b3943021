"""`shanty`, also as `python -m shanty_cli`: read the command line, carry it out, say how it ended."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from cyclopts import CycloptsError

from shanty_cli.app import app


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code of a command line. What can be foreseen ends in a sentence on stderr, never in a traceback."""
    try:
        code = app(
            list(sys.argv[1:] if arguments is None else arguments),
            exit_on_error=False,
            result_action="return_value",
        )
        sys.stdout.flush()
    except CycloptsError:
        return 2  # it has said why
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has had enough; the interpreter must not try to flush the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        return _explain(error)
    return code if isinstance(code, int) else 0


def _explain(error: Exception) -> int:
    from shanty_cli.exits import Interrupted, exit_code, sentence
    from shanty_cli.text import clean
    from shanty_runtime.errors import ShantyError

    if not isinstance(error, ShantyError):
        raise error  # a mistake of ours: the traceback is what helps
    if not isinstance(error, Interrupted):  # whoever interrupted knows
        print(f"shanty: {clean(sentence(error))}", file=sys.stderr)
    return exit_code(error)


if __name__ == "__main__":
    sys.exit(main())
