"""What a step's commands leave on its job's check run, by the rules of the runner."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, cast

from gpu_ci_sandbox.action_step import masks_in

if TYPE_CHECKING:
    from collections.abc import Iterator

Level = Literal["notice", "warning", "failure"]

# actions/runner, ExecutionContext: so many of a kind a step, and so many characters of each.
MOST_OF_A_KIND: Final = 10
LONGEST: Final = 4096
LEVELS: Final = {"notice": "notice", "warning": "warning", "error": "failure"}
COMMAND: Final = re.compile(r"::(?P<name>[\w-]+)(?: (?P<properties>[^:]*))?::(?P<text>.*)")


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """One annotation of a check run."""

    level: Level
    message: str
    title: str = ""


@dataclass
class Annotator:
    """Hears a step's lines, and yields the annotations that they ask for."""

    _counts: Counter[str] = field(default_factory=Counter)
    _masks: list[str] = field(default_factory=list)
    _stopped: str = ""

    def hear(self, line: str) -> Iterator[Annotation]:
        """Take a line; commands between `stop-commands` and its token are not obeyed."""
        found = COMMAND.match(line.lstrip())
        if found is None or (self._stopped and found["name"] != self._stopped):
            return
        name, text = found["name"], found["text"]
        self._masks += masks_in([line])
        if name == self._stopped:
            self._stopped = ""
        elif name == "stop-commands":
            self._stopped = text
        elif name in LEVELS and self._counts[name] < MOST_OF_A_KIND:
            self._counts[name] += 1
            yield Annotation(
                level=cast("Level", LEVELS[name]),
                message=self._masked(_unescaped(text))[:LONGEST],
                title=_properties(found["properties"] or "").get("title", ""),
            )

    def _masked(self, text: str) -> str:
        for mask in self._masks:
            text = text.replace(mask, "***")
        return text


def _properties(text: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in text.split(",") if part)
    return {name.strip(): _unescaped(value, "%3A=:", "%2C=,") for name, _, value in pairs}


def _unescaped(text: str, *more: str) -> str:
    for pair in ("%0D=\r", "%0A=\n", *more, "%25=%"):
        code, _, plain = pair.partition("=")
        text = text.replace(code, plain)
    return text
