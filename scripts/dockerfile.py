"""A Dockerfile as data: its stages and their instructions, for the check that runs them without an engine."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from string import Template


@dataclass(frozen=True)
class Instruction:
    """`words` is an exec form's list, or None for a shell form; `text` is what follows the keyword."""

    keyword: str
    text: str
    words: tuple[str, ...] | None

    @property
    def command(self) -> list[str]:
        """What an engine starts for RUN or CMD."""
        return list(self.words) if self.words is not None else ["/bin/sh", "-c", self.text]

    def options(self) -> dict[str, str]:
        """The `--name=value` words at the front."""
        return dict(word[2:].split("=", 1) for word in self.text.split() if re.match(r"--[\w-]+=", word))

    def rest(self) -> str:
        """What follows the options."""
        return re.sub(r"^(--[\w-]+=\S+\s+)*", "", self.text)


@dataclass
class Stage:
    """A FROM and what follows it, up to the next."""

    base: str
    name: str
    instructions: list[Instruction] = field(default_factory=list)

    def all(self, keyword: str) -> list[Instruction]:
        return [instruction for instruction in self.instructions if instruction.keyword == keyword]

    def last(self, keyword: str) -> Instruction | None:
        return next(reversed(self.all(keyword)), None)

    def pairs(self, keyword: str) -> dict[str, str]:
        """The `name=value` pairs of all LABEL or ENV instructions; references to variables stand as they are."""
        words = [word for instruction in self.all(keyword) for word in shlex.split(instruction.text)]
        return dict(word.split("=", 1) for word in words)


def read(path: Path) -> list[Stage]:
    """The stages in their order. Knows what this repository's file uses: no heredocs, no ARG before FROM."""
    stages: list[Stage] = []
    for line in _joined_lines(path.read_text()):
        keyword, text = line.split(None, 1)
        if keyword == "FROM":
            base, _, name = re.fullmatch(r"(\S+)( AS (\S+))?", text).groups()  # type: ignore[union-attr]
            stages.append(Stage(base, name or str(len(stages))))
        else:
            stages[-1].instructions.append(Instruction(keyword, text, _exec_form(text)))
    return stages


def ancestry(stages: list[Stage], target: str) -> list[Stage]:
    """The target and the stages that it is built from, the first one first."""
    by_name = {stage.name: stage for stage in stages}
    line = [by_name[target]]
    while line[0].base in by_name:
        line.insert(0, by_name[line[0].base])
    return line


def expand(text: str, environment: dict[str, str]) -> str:
    return Template(text).substitute(environment)


def _joined_lines(text: str) -> list[str]:
    """Without comments and blank lines, each instruction in one line."""
    kept = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return re.sub(r"\\\n\s*", "", "\n".join(kept)).splitlines()


def _exec_form(text: str) -> tuple[str, ...] | None:
    start = text.find("[")
    if start < 0 or text[:start].split()[-1:] not in ([], ["CMD"]):
        return None
    return tuple(json.loads(text[start:]))
