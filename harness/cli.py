"""The command line: words come in, the command that they name runs, an exit code goes out.

Exit codes: 0 conforms, 1 mismatch, 2 usage, 3 the harness itself failed, 4 nothing ran or a required framework is
missing, 130 interrupted.
"""

from __future__ import annotations

import sys

from cyclopts import App, CycloptsError
from cyclopts.config import Toml

from harness.commands.check import check
from harness.commands.console import CONFORMS, HARNESS_FAILED, USAGE
from harness.commands.listing import list_
from harness.commands.replay import replay
from harness.commands.report import report
from harness.commands.run import run
from harness.commands.selftest import selftest
from harness.commands.train import train

app = App(
    name="harness",
    help="Judge hand-written backward passes against what rounding can do, side by side with automatic differentiation. "
    "Exit codes: 0 conforms, 1 mismatch, 2 usage, 3 the harness itself failed, 4 nothing ran or a required framework is missing.",
    config=Toml("pyproject.toml", root_keys=["tool", "backprop-harness"], search_parents=True, must_exist=False),
    version=lambda: __import__("harness").__version__,
)
for command in (run, replay, check, report, train, selftest):
    app.command(command)
app.command(list_, name="list")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code; a user's mistake is one line, never a traceback."""
    sys.exit(call(arguments))


def call(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    try:
        result = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        return _complain(" ".join(str(error).split()), USAGE)
    except KeyboardInterrupt:
        return _complain("interrupted", 130)
    except Exception as error:  # reason: whatever is not the user's mistake is the harness's own, told by its code
        return _explain(error)
    return result if isinstance(result, int) else CONFORMS


def _explain(error: Exception) -> int:
    """Return the exit code of an error, with one line for a user's mistake and a traceback for the harness's own."""
    from harness.core import BadInput

    if isinstance(error, BadInput):
        return _complain(str(error), USAGE)
    import traceback

    traceback.print_exc()
    return _complain(f"the harness itself failed: {error}", HARNESS_FAILED)


def _complain(message: str, code: int) -> int:
    sys.stderr.write(f"harness: {message}\n")
    return code
