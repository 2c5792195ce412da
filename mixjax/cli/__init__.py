"""The command line (files -> one library call -> files): entry point, errors in one line, exit
codes.

Exit codes: 0 done; 2 bad input or usage; 130 interrupted. Nothing heavy is imported before a
command runs.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any, TextIO

import click

from mixjax import __version__
from mixjax.cli import decide, explore, fit, pipeline, trust
from mixjax.cli.run import BAD_INPUT, DONE, INTERRUPTED
from mixjax.errors import MixjaxWarning, UserError, nearest


class _Commands(click.Group):
    """A group with its commands under headings, that offers the nearest command, and whose reader
    may go away."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [str(command.name) for commands in HEADINGS.values() for command in commands]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, self.commands))
        for heading, commands in HEADINGS.items():
            rows = [(str(c.name).ljust(width), c.get_short_help_str(80)) for c in commands]
            with formatter.section(heading):
                formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            remedy = f"{nearest(args[0], self.commands)}choose from {', '.join(self.commands)}"
            raise click.UsageError(f"no command {args[0]!r}; {remedy}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except BrokenPipeError:
            _silence(sys.stdout)
            return DONE


@click.group(
    cls=_Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, prog_name="mixjax", message="%(prog)s %(version)s")
@click.pass_context
def mixjax(ctx: click.Context) -> None:
    """Choose the data mixture of a large training run from small runs.

    Fits scaling laws of the loss in model size N, tokens D and domain weights h to a table of runs,
    and finds the weights that are predicted to be best at the scale you will train.

    \b
      mixjax demo                                  everything, on simulated runs
      mixjax fit runs.csv -o fit.json              fit a law
      mixjax mix fit.json -N 7B -D 150B            the best mixture for 7e9 parameters, 150e9 tokens
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


# What the commands are for, in the order of the user's way.
HEADINGS: dict[str, tuple[click.Command, ...]] = {
    "The whole way": (pipeline.decide, pipeline.demo, pipeline.run),
    "Plan": (fit.design, fit.next_),
    "Fit": (fit.fit, fit.score, fit.predict, fit.compare),
    "Trust": (trust.validate, trust.extrapolate, trust.intervals, trust.identify, trust.enough),
    "Decide": (
        decide.mix,
        decide.judge,
        decide.flat,
        decide.move,
        decide.value,
        decide.budget,
        decide.robust,
        decide.pareto,
        explore.explore,
    ),
}
for _command in (command for commands in HEADINGS.values() for command in commands):
    mixjax.add_command(_command)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command, its errors told in one line.

    Args:
        argv: the words after `mixjax`; those of the process by default.

    Returns:
        The exit code: 0 done, 2 bad input or usage, 130 interrupted.
    """
    told = Told()
    words = None if argv is None else list(argv)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", MixjaxWarning)
        warnings.showwarning = lambda message, *_, **__: told.add(str(message))
        try:
            result = mixjax.main(words, "mixjax", standalone_mode=False, obj=told)
        except click.ClickException as error:
            return _complain(_usage(error))
        except UserError as error:
            return _complain(str(error))
        except (KeyboardInterrupt, click.Abort):
            return _complain("interrupted before there was a result", INTERRUPTED)
        except OSError as error:
            what = f"{error.filename or 'system'}: {error.strerror or error}"
            return _complain(f"{what}; check the file, the disk and the permissions")
        finally:
            told.tell()
    return result if isinstance(result, int) else DONE


def _usage(error: click.ClickException) -> str:
    """Click's message in our shape: what is wrong; where to read on."""
    context = getattr(error, "ctx", None)
    text = error.format_message().rstrip(". ")
    if isinstance(error, click.NoSuchOption):
        option = error.option_name
        having = [n for n, c in mixjax.commands.items() if any(option in p.opts for p in c.params)]
        text = f"no option {option} here, but with {', '.join(having)}" if having else text
    if not isinstance(error, click.UsageError) or context is None:
        return text
    return f"{text}; see {context.command_path} --help"


def _complain(message: str, code: int = BAD_INPUT) -> int:
    _line(f"mixjax: {'error: ' if code == BAD_INPUT else ''}{message}")
    return code


class Told:
    """Warnings, one line each on stderr when a command's long work begins, before its result or
    after its error; what was told is not told again. `lines` are kept for --json."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._number = 0  # of those told

    def add(self, line: str) -> None:
        """One more, unless it is there."""
        if line not in self.lines:
            self.lines.append(line)

    def tell(self) -> None:
        """Those that were not told yet."""
        new, self._number = self.lines[self._number :], len(self.lines)
        for line in new:
            _line(f"mixjax: warning: {line}")


def _line(text: str) -> None:
    """One line on stderr, whatever is in the text."""
    try:
        click.echo(" ".join(text.split()), err=True)
    except BrokenPipeError:
        _silence(sys.stderr)


def _silence(stream: TextIO) -> None:
    """Send what is still to be flushed at exit nowhere: the reader has gone."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except (OSError, ValueError):
        return
