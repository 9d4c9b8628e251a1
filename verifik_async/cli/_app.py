"""The commands, and what all of them share."""

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, TypeAlias

from cyclopts import App, CycloptsError, Parameter

from verifik_async import ConfigurationError, __version__
from verifik_async.cli import _help
from verifik_async.cli._exit import Exit, UsageError, complain, one_line

# What every command's --json and --debug are.
Flag: TypeAlias = Annotated[bool, Parameter(negative=(), show_default=False)]

app = App(name="verifik-async", help=_help.OVERVIEW, version=__version__)
# By name: a command's module, and what it needs, is imported when it is used. The
# overview needs no more than the texts.
for _name, _text in _help.COMMANDS.items():
    app.command(f"verifik_async.cli._{_name}:{_name}", name=_name, help=_text)
app.register_install_completion_command(help="Install completion for your shell.")


def run(tokens: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    try:
        code = app(
            list(tokens),
            exit_on_error=False,
            print_error=False,
            result_action="return_value",
        )
    except CycloptsError as error:
        return _refuse(" ".join(str(error).split()) + " (see --help)", tokens)
    except ConfigurationError as error:
        return _refuse(one_line(error), tokens)
    except UsageError as error:
        return _refuse(str(error), tokens)
    except (BrokenPipeError, ExceptionGroup) as error:
        if not _reader_left(error):
            raise
        return Exit.SOME_FAILED
    return code if isinstance(code, int) else Exit.OK


def _reader_left(error: Exception) -> bool:
    """Tell whether the reader of stdout, `head` for one, has had enough."""
    if isinstance(error, ExceptionGroup) and error.split(BrokenPipeError)[1]:
        return False
    # Python flushes once more at its end, and would complain.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def _refuse(text: str, tokens: Sequence[str]) -> int:
    if "--debug" in tokens:
        traceback.print_exc()
    complain(text)
    return Exit.USAGE
