"""Run a page of the documentation: python tests/documents.py PAGE.md, in an empty folder.

Every fenced block is run in order, in one process and one folder:

    ```bash                    each line; of mixjax in this process, others by the shell
    ```python                  in one namespace a page
    ```yaml title="base.yaml"  any block with a title is written to that file
    ```text, ```console        shown, not run: output, and what needs a network or a large table

The first block that fails ends the run: page, line and error on stderr, exit code 1. With a second
folder the pictures that the page has drawn are copied there: docs/pictures are those of
docs/howto/questions.md.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

SHOWN = {"text", "console"}
_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[\w+-]*)(?P<rest>.*)$")
_TITLE = re.compile(r'title="([^"]+)"')


class Block(NamedTuple):
    """A fenced block: where its first line stands, and what it says."""

    language: str
    title: str | None
    line: int
    text: str


def blocks(page: str) -> Iterator[Block]:
    """The fenced blocks of a page.

    Raises:
        ValueError: a fence without a language: whether it is run must be said.
    """
    lines = enumerate(page.splitlines(), 1)
    for number, line in lines:
        fence = _FENCE.match(line)
        if not fence:
            continue
        if not fence["language"]:
            raise ValueError(f"line {number}: a fence without a language; write text if not run")
        inside: list[str] = []
        for _, line in lines:
            if line.strip() == "```":
                break
            inside.append(line)
        title = _TITLE.search(fence["rest"])
        text = textwrap.dedent("\n".join(inside)) + "\n"
        yield Block(fence["language"], title and title[1], number + 1, text)


def commands(block: Block) -> Iterator[tuple[int, str]]:
    """The lines of a bash block, those that end in a backslash joined."""
    begun, joined = block.line, ""
    for number, line in enumerate(block.text.splitlines(), block.line):
        begun = number if not joined else begun
        if line.endswith("\\"):
            joined += line[:-1]
            continue
        joined, whole = "", joined + line
        if whole.strip() and not whole.lstrip().startswith("#"):
            yield begun, whole


def run_command(command: str) -> None:
    """One line of bash."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words = list(lexer)
    if words[0] == "mixjax" and not any(set(word) <= set("|<>&;") for word in words):
        from mixjax.cli import main

        complaint = io.StringIO()
        with contextlib.redirect_stderr(complaint):
            code = main(words[1:])
        if code:
            raise RuntimeError(f"exit code {code}: {complaint.getvalue().strip()}")
    else:
        shell = ["bash", "-euo", "pipefail", "-c", command]
        result = subprocess.run(shell, capture_output=True, text=True, check=False)
        if result.returncode:
            raise RuntimeError(f"exit code {result.returncode}: {result.stderr.strip()}")


def run_page(path: Path) -> None:
    """Run a page in the current folder, whose modules it may import.

    Raises:
        RuntimeError: a block failed, or its language is not known; says page, line and why.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    sys.path.insert(0, os.getcwd())
    for block in blocks(path.read_text(encoding="utf-8")):
        line = block.line
        try:
            if block.title:
                Path(block.title).write_text(block.text, encoding="utf-8")
            elif block.language == "bash":
                for at, command in commands(block):
                    line = at
                    run_command(command)
            elif block.language == "python":
                exec(compile("\n" * (line - 1) + block.text, str(path), "exec"), names)
            elif block.language not in SHOWN:
                raise ValueError(f"{block.language}: not run and not written; say text or a title")
        except Exception as error:
            trace = error.__traceback__
            while trace is not None:
                if trace.tb_frame.f_code.co_filename == str(path):
                    line = trace.tb_lineno
                trace = trace.tb_next
            where = f"{path}:{getattr(error, 'lineno', None) or line}"
            raise RuntimeError(f"{where}: {type(error).__name__}: {error}") from error


def main() -> int:
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            run_page(Path(sys.argv[1]))
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    for folder in sys.argv[2:]:
        for picture in Path().glob("*.png"):
            shutil.copy(picture, folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
