"""What one pass remembers for the next, in a folder that the caller keeps."""

from __future__ import annotations

import json
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gpu_ci.errors import EnvironmentBroken
from gpu_ci.github.transport import Answer
from gpu_ci.model.tags import slug

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION: Final = 1
KEPT_HEADERS: Final = ("etag", "link")
# GitHub ends every run after 35 days (docs.github.com, usage limits).
LONGEST_RUN_SECONDS: Final = 35 * 86400.0


class Answers(dict[str, Answer]):
    """Answers by their address; `asked` holds those that this pass asked for."""

    def __init__(self, known: Mapping[str, Answer]) -> None:
        super().__init__(known)
        self.asked: set[str] = set()

    def get(self, url: str, default: Any = None) -> Any:
        self.asked.add(url)
        return super().get(url, default)


@dataclass(kw_only=True)
class Cache:
    """The answers that have an ETag, and until when each job was seen to wait for an approval or its
    turn (seconds since the epoch, by the job's id).

    Without a folder it forgets. What it holds is as private as the repository's runs.
    """

    file: Path | None = None
    answers: Answers = field(default_factory=lambda: Answers({}))
    held_until: dict[int, float] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: str, repository: str) -> Cache:
        """Read what the last pass left; anything else is ignored."""
        if not folder:
            return cls()
        file = Path(folder) / f"gpu-ci-watchdog-{slug(repository)}.json"
        with suppress(OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return cls._read(file, json.loads(file.read_text()))
        return cls(file=file)

    @classmethod
    def _read(cls, file: Path, data: Any) -> Cache:
        if data["version"] != VERSION:
            raise ValueError(data["version"])
        known = {url: Answer(**answer) for url, answer in data["answers"].items()}
        if not all(map(_is_sound, known.values())):
            raise ValueError("an answer that cannot be asked for by its ETag")
        held = {int(job): float(until) for job, until in data["held_until"].items()}
        return cls(file=file, answers=Answers(known), held_until=held)

    def save(self) -> None:
        """Keep what this pass asked for. Raises EnvironmentBroken when the folder cannot be written."""
        if self.file is None:
            return
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self._write(self.file)
        except OSError as error:
            raise EnvironmentBroken(
                f"cache-dir {self.file.parent} cannot be written: {error}.",
                "Give a folder that this job may write to, or leave cache-dir empty.",
            ) from error

    def _write(self, file: Path) -> None:
        """Write next to it and rename: a pass that is killed leaves the old file whole."""
        with tempfile.TemporaryDirectory(dir=file.parent) as folder:
            new = Path(folder, file.name)
            new.touch(mode=0o600)
            new.write_text(json.dumps(self._data()))
            new.replace(file)

    def _data(self) -> dict[str, Any]:
        answers = {url: _small(self.answers[url]) for url in self.answers.asked & set(self.answers)}
        latest = max(self.held_until.values(), default=0.0)
        held = {
            str(job): until
            for job, until in self.held_until.items()
            if latest - until < LONGEST_RUN_SECONDS
        }
        return {"version": VERSION, "answers": answers, "held_until": held}


def _small(answer: Answer) -> dict[str, Any]:
    headers = {name: answer.headers[name] for name in KEPT_HEADERS if name in answer.headers}
    return {"what": answer.what, "data": answer.data, "headers": headers}


def _is_sound(answer: Answer) -> bool:
    texts = [answer.what, *answer.headers.values()]
    return "etag" in answer.headers and all(isinstance(text, str) for text in texts)
