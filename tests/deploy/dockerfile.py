"""Reads a Dockerfile far enough to assert facts about it: stages, and the instructions of each."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Stage:
    """One ``FROM`` and what follows it, in order: ``(instruction, arguments)`` with continuation lines joined."""

    name: str
    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, instruction: str) -> list[str]:
        """The arguments of every such instruction of this stage."""
        return [arguments for name, arguments in self.instructions if name == instruction]

    def last(self, instruction: str) -> str:
        """The arguments of the one that counts: the last."""
        return self.all(instruction)[-1]


def read_stages(path: Path) -> dict[str, Stage]:
    """The stages by name, in order. What stands before the first ``FROM`` is left out."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    stages: dict[str, Stage] = {}
    stage: Stage | None = None
    for line in filter(None, map(str.strip, text.splitlines())):
        instruction, _, arguments = line.partition(" ")
        if instruction == "FROM":
            base, name = re.fullmatch(r"(\S+) AS (\S+)", arguments).groups()  # type: ignore[union-attr]
            stage = stages[name] = Stage(name, base)
        elif stage is not None:
            stage.instructions.append((instruction, " ".join(arguments.split())))
    return stages


def exec_form(arguments: str) -> list[str]:
    """The words of ``["word", ...]``; a shell command instead is an error (it would swallow signals)."""
    words = json.loads(arguments)
    assert isinstance(words, list)
    return [str(word) for word in words]
