"""Code blocks of Markdown pages: how they are found, marked and executed.

Every block is a fence with a language. ``sh``, ``python`` and ``yaml`` are executed (YAML: validated as a part of a
config) in the order of the page and in one folder, unless the HTML comment above says why not:

    <!-- not run: needs a GPU -->      the reason is for the reader; syntax and command line are checked all the same
    <!-- exit code 1 -->               the block is run and must end so
    <!-- output -->                    a ``text`` block whose lines the block before must have printed; ``...`` skips

``text`` is for what nobody types, and must not begin a line with a command.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml
from markdown_it import MarkdownIt

from emulator.cli import main
from emulator.config import ExperimentConfig, parse_config, read_yaml
from emulator.parser import build_parser

ROOT = Path(__file__).parents[1]
LANGUAGES = ("sh", "python", "yaml", "text")

_MARK = re.compile(r"<!--\s*(?P<kind>not run|exit code|output)\b:?\s*(?P<rest>.*?)\s*-->\s*$", re.DOTALL)
_COMMANDS = re.compile(
    r"^\s*(\$ |emulator |python3? |pip |make |git |srun |sbatch |export |import |from \S+ import )", re.M
)
_SHELL_ONLY = re.compile(r"[|;&<>$`]|^\s*(for|if|while|export|cd)\b", re.M)
_COMMENT = re.compile(r"(^|\s)#.*")
_MINIMAL: dict[str, Any] = {
    "name": "example",
    "data": {"inputs": ["a.nc"], "prognostic": {"temperature": {}}, "split": {"segments": {"test": [1]}}},
    "train": {"stages": [{"steps": 3}]},
}


class Wrong(AssertionError):
    """A block that is not what it should be; begins with page and line."""


@dataclass(frozen=True)
class Block:
    """A code block.

    Attributes:
      page: Where it stands, relative to the repository.
      line: Its first line there, from 1.
      language: Of the fence; empty for an indented block or a fence without one.
      text: What it holds.
      mark: ``not run``, ``exit code``, ``output`` or empty.
      detail: What follows the mark: the reason, or the code.
    """

    page: str
    line: int
    language: str
    text: str
    mark: str = ""
    detail: str = ""

    def wrong(self, message: str) -> Wrong:
        """The error to raise about this block."""
        return Wrong(f"{self.page}:{self.line}: {message}")


def pages() -> list[Path]:
    """All pages: those of ``docs/`` and those beside it."""
    return [*sorted((ROOT / "docs").rglob("*.md")), *sorted(ROOT.glob("*.md"))]


def blocks_of(text: str, page: str) -> list[Block]:
    """All code blocks, indented ones and those in lists and quotations among them."""
    found = []
    above = ""
    for token in MarkdownIt().enable("table").parse(text):
        if token.type in ("fence", "code_block"):
            mark = _MARK.search(above)
            found.append(
                Block(
                    page,
                    token.map[0] + 1 if token.map else 0,
                    token.info.strip() if token.type == "fence" else "",
                    token.content,
                    mark["kind"] if mark else "",
                    mark["rest"] if mark else "",
                )
            )
        above = token.content if token.type == "html_block" else ""
    return found


def check(block: Block) -> None:
    """Refuses a block that cannot be right, whether it is run or not.

    Raises:
      Wrong: it has no language, hides a command, is marked without a reason, or cannot be parsed.
    """
    if block.language not in LANGUAGES:
        raise block.wrong(f"a block needs one of the languages {', '.join(LANGUAGES)}, found {block.language!r}")
    if block.mark == "not run" and len(block.detail.split()) < 2:
        raise block.wrong("'not run' needs a reason in words")
    if (block.mark == "output") > (block.language == "text"):
        raise block.wrong("output is a 'text' block")
    if block.language == "text" and block.mark != "output" and _COMMANDS.search(block.text):
        raise block.wrong(f"a command in a text block: {_COMMANDS.search(block.text)[0]!r}")  # type: ignore[index]
    if block.language == "python":
        compile(block.text, f"{block.page}:{block.line}", "exec")
    if block.language == "yaml":
        yaml.safe_load(block.text)
    if block.language == "sh":
        done = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True)
        if done.returncode:
            raise block.wrong(done.stderr)
        for words in _our_commands(block.text):
            _parse(block, words)


class Runner:
    """Executes the blocks of one page in one folder, which must be the working directory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: dict[str, Any] = {"__name__": "__main__"}
        self._output = ""

    def run(self, block: Block) -> None:
        """Executes a block.

        Raises:
          Wrong: it failed, or printed something else than the page says.
        """
        if block.mark == "not run":
            return
        if block.language == "text":
            if block.mark == "output":
                self._compare(block)
            return
        wanted = int(block.detail) if block.mark == "exit code" else 0
        captured = io.StringIO()
        code = 0
        with contextlib.redirect_stdout(captured), contextlib.redirect_stderr(captured):
            try:
                code = getattr(self, f"_{block.language}")(block, captured)
            except Exception as error:
                raise block.wrong(f"{type(error).__name__}: {error}\n{captured.getvalue()}") from error
        self._output = captured.getvalue()
        if code != wanted:
            raise block.wrong(f"exit code {code}, expected {wanted}\n{self._output}")

    def _python(self, block: Block, _: io.StringIO) -> int:
        exec(compile(block.text, f"{block.page}:{block.line}", "exec"), self._names)
        return 0

    def _yaml(self, block: Block, _: io.StringIO) -> int:
        file = self._folder / ".block.yaml"
        file.write_text(block.text, encoding="utf-8")
        raw = read_yaml(file)
        parse_config(raw if "name" in raw else _completed(raw))
        return 0

    def _sh(self, block: Block, captured: io.StringIO) -> int:
        commands = _our_commands(block.text)
        if _SHELL_ONLY.search(_COMMENT.sub("", block.text)) or len(commands) != len(_lines(block.text)):
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", block.text],
                cwd=self._folder,
                env=os.environ | {"PATH": f"{_doors(self._folder)}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)},
                capture_output=True,
                text=True,
                timeout=300,
            )
            captured.write(done.stdout + done.stderr)
            return done.returncode
        for words in commands:  # in this process: a command of its own would import and compile all over again
            code = main([name for word in words[1:] for name in self._files(word)])
            if code:
                return code
        return 0

    def _files(self, word: str) -> list[str]:
        """A word as the shell hands it on: the files that it stands for, or itself."""
        if "*" not in word:
            return [word]
        return sorted(p.relative_to(self._folder).as_posix() for p in self._folder.glob(word)) or [word]

    def _compare(self, block: Block) -> None:
        printed = iter([line.rstrip() for line in self._output.splitlines()])
        for line in block.text.splitlines():
            if line.strip() and line.strip() != "..." and line.rstrip() not in printed:
                raise block.wrong(f"the block before did not print, or not in this order: {line!r}\n{self._output}")


def _completed(raw: dict[str, Any]) -> dict[str, Any]:
    """Sections as a whole config; what they leave out is taken from a small one."""
    sections = {name: {**_MINIMAL.get(name, {}), **raw[name]} for name in raw if isinstance(raw[name], dict)}
    whole = {**_MINIMAL, **raw, **sections}
    if sections.get("evaluate", {}).get("twin") is not None:
        whole.setdefault("simulate", {})
    assert set(raw) <= set(ExperimentConfig.model_fields), f"no sections of a config: {set(raw)}"
    return whole


def _lines(text: str) -> list[list[str]]:
    """Words of each command, comments left out."""
    return [words for line in _plain(text).splitlines() if (words := shlex.split(line, comments=True))]


def _our_commands(text: str) -> list[list[str]]:
    """Words of each ``emulator`` command of a shell block, what stands before and behind it left out."""
    found = []
    for line in _plain(text).splitlines():
        try:
            words = shlex.split(line, comments=True)
        except ValueError:  # within a quotation of several lines
            continue
        starts = [i for i, word in enumerate(words) if word == "emulator" and _may_precede(words[:i])]
        if starts:
            found.append(list(takewhile(lambda word: word not in ("|", "&&", ";", "&", ">"), words[starts[0] :])))
    return found


def _plain(text: str) -> str:
    """The text without continued lines and here-documents."""
    return re.sub(r"<<\s*'?(\w+)'?.*?\n\1\n", "\n", text.replace("\\\n", " "), flags=re.DOTALL)


def _may_precede(words: list[str]) -> bool:
    """Whether a command may follow these: nothing, assignments, a launcher."""
    return not words or words[0] in ("srun", "time", "do", "nohup", "ssh", "mpirun") or all("=" in w for w in words)


def _parse(block: Block, words: list[str]) -> None:
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            build_parser().parse_args(words[1:])
    except SystemExit as stop:
        if stop.code:
            raise block.wrong(f"{' '.join(words)}: {said.getvalue().strip()}") from None


def _doors(folder: Path) -> Path:
    """A folder with ``emulator`` and ``python`` as the reader has them."""
    doors = folder / ".bin"
    if not doors.exists():
        doors.mkdir()
        for name, target in (("emulator", f"{sys.executable} -m emulator"), ("python", sys.executable)):
            (doors / name).write_text(f'#!/bin/sh\nexec {target} "$@"\n', encoding="utf-8")
            (doors / name).chmod(0o755)
    return doors
