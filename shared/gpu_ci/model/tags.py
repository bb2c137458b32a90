"""What a machine carries from its create call on, and what names and labels say. Pure."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


PREFIX = "gpu-ci"


# The run id of a start outside any run.
IN_A_TERMINAL = "0"


def key_mark(repository: str, key: str) -> str:
    """Return the part of a name that all machines of one start share, and no other start's have."""
    both = f"{repository}\n{key}"
    return f"-{repository_mark(repository)}{_digest(both, 6)}-"


def repository_mark(repository: str) -> str:
    """Return what the names of a repository's machines have in common.

    It identifies them where there are no tags, and among an organisation's runners.
    """
    return _digest(repository, 4)


def _digest(text: str, length: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:length]


@dataclass(frozen=True, kw_only=True)
class Mark:
    """What a name or a label of ours says about the start that made it.

    `starter` is "" if unknown: a name never has it, a label does if the runner gave it.
    """

    run_id: str
    attempt: str
    key_mark: str
    starter: str = ""

    @property
    def repository_mark(self) -> str:
        return self.key_mark[1:5]

    def fits(self, wanted: Mapping[str, str]) -> bool:
        """Say whether a machine with this mark can have these tags.

        A key is only known together with its repository. Raises KeyError for tags of no mark.
        """
        wanted = dict(wanted)
        repository, key = wanted.pop("repository", ""), wanted.pop("key", None)
        known = {"run_id": self.run_id, "attempt": self.attempt}
        fits_repository = not repository or self.repository_mark == repository_mark(repository)
        fits_key = key is None or self.key_mark == key_mark(repository, key)
        fits_rest = all(known[field] == value for field, value in wanted.items())
        return fits_repository and fits_key and fits_rest


_NAME = rf"{PREFIX}-(?P<run_id>\d+)-(?P<attempt>\d+)-.+(?P<key_mark>-[0-9a-f]{{10}}-)\d+(?:r\d+)?"


_LABEL = _NAME + r"(?:-(?P<starter>\d+))?-[0-9a-f]{8}"


def read_name(name: str) -> Mark | None:
    """Read a name that `Identity.name` made; None for any other."""
    found = re.fullmatch(_NAME, name)
    return Mark(**found.groupdict()) if found else None


def our_label(labels: Iterable[str]) -> str:
    """Return the label among a runner's that `Identity.label` made, "" when there is none.

    A runner that serves an earlier attempt's job also has that attempt's label: the latest counts.
    """
    ours = {each: mark for each in labels if (mark := read_label(each))}
    return max(ours, key=lambda each: (int(ours[each].attempt), each), default="")


def read_label(label: str) -> Mark | None:
    """Read a label that `Identity.label` made; None for any other."""
    found = re.fullmatch(_LABEL, label)
    return Mark(**found.groupdict(default="")) if found else None


def run_prefix(run_id: str) -> str:
    """Return how the names of all machines and runners of one run begin."""
    return f"{PREFIX}-{run_id}-"


def slug(text: str) -> str:
    """Return text as lower-case letters, digits and single hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


@dataclass(frozen=True, kw_only=True)
class Tags:
    """What a machine carries from its create call on, enough to find it and give it back.

    `runner_id` is 0 while unknown (registration by token); `expires_at` is the moment, in seconds
    since the epoch, after which nobody can need the machine.
    """

    name: str
    label: str
    repository: str
    run_id: str
    attempt: str
    key: str
    scope: str
    starter: str = ""
    runner_id: int = 0
    expires_at: int = 0

    def as_mapping(self) -> dict[str, str]:
        """Return the tags as a provider writes them: `gpu-ci:run-id` and so on."""
        return {tag_key(field.name): str(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_mapping(cls, tags: Mapping[str, str]) -> Self | None:
        """Read a provider's tags; None when they are not ours."""
        known: dict[str, Any] = {
            f.name: tags[tag_key(f.name)] for f in fields(cls) if tag_key(f.name) in tags
        }
        try:
            known |= {name: int(known.get(name, 0)) for name in ("runner_id", "expires_at")}
            return cls(**known)
        except (TypeError, ValueError):
            return None


def tag_key(field: str) -> str:
    """Return the tag's key for a field of `Tags`."""
    return f"{PREFIX}:{field.replace('_', '-')}"
