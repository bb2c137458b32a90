"""What `gpu-ci init` is to write: from the flags, from `.cirun.yml`, or from answers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gpu_ci.errors import BadInputs
from gpu_ci.init.checkout import CIRUN
from gpu_ci.init.cirun_yml import Profile, read_cirun
from gpu_ci.profiles.read_profile import NAME
from gpu_ci.providers import PROVIDERS, provider_class

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gpu_ci.init.checkout import Repository


@dataclass(frozen=True, kw_only=True)
class Flags:
    """The flags of `gpu-ci init`, "" where not given; `source` is `--from`."""

    provider: str = ""
    machine: str = ""
    profile: str = ""
    python: str = ""
    run: str = ""
    source: str = ""
    dry_run: bool = False
    force: bool = False
    yes: bool = False


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The profiles by their names, the one that the workflow uses, and what it runs there."""

    profiles: Mapping[str, Profile]
    used: str
    run: str
    python: str

    @property
    def provider(self) -> str:
        """The provider of the profile that the workflow uses."""
        return str(self.profiles[self.used]["provider"])


def decide(
    flags: Flags,
    seen: Repository,
    env: Mapping[str, str],
    ask: Callable[[str], str] | None,
    say: Callable[[str], None],
) -> Wanted:
    """Decide what to write. Raises BadInputs, which names everything missing in one sentence."""
    source = flags.source or (CIRUN if seen.cirun and not (flags.provider or flags.machine) else "")
    questions = _Questions(flags=flags, ask=ask)
    profiles = _converted(flags, seen, source, say) if source else _asked(flags, env, questions)
    run = questions.answer("run", "Test command, run on the machine", flags.run, seen.command)
    questions.finish()
    used = flags.profile or next(iter(profiles))
    if used not in profiles:
        raise BadInputs([f"--profile is {used!r}; {source} has: {', '.join(profiles)}."])
    return Wanted(profiles=profiles, used=used, run=run, python=flags.python)


def _converted(
    flags: Flags, seen: Repository, source: str, say: Callable[[str], None]
) -> Mapping[str, Profile]:
    if flags.provider or flags.machine:
        raise BadInputs(["--from says which machines there are: leave out --provider, --machine."])
    file = Path(flags.source) if flags.source else seen.root / source
    try:
        data = file.read_bytes()
    except OSError as error:
        raise BadInputs([f"--from: {file} cannot be read ({error.strerror})."]) from None
    profiles, notes = read_cirun(data, str(source))
    say(f"Read {source}: {', '.join(profiles)}.")
    for note in notes:
        say(f"  {note}")
    return profiles


def _asked(flags: Flags, env: Mapping[str, str], questions: _Questions) -> Mapping[str, Profile]:
    likely = next(filter(partial(_is_at_hand, env), PROVIDERS), next(iter(PROVIDERS)))
    names = ", ".join(PROVIDERS)
    provider = questions.answer("provider", f"Provider ({names})", flags.provider, likely)
    if provider not in PROVIDERS:
        raise BadInputs([f"--provider is {provider!r}; it must be one of {names}."])
    profile: dict[str, str | list[str]] = {"provider": provider}
    machines = [] if PROVIDERS[provider].one_type else _machines(provider, flags, questions)
    if machines:
        profile["machine"] = machines if machines[1:] else machines[0]
    if region := _region(provider, env):
        profile["region"] = region
    name = flags.profile or _slug(next(iter(machines), provider))
    if not re.fullmatch(NAME, name):
        raise BadInputs([f"--profile is {name!r}; a name is letters, digits, dots, - and _."])
    return {name: profile}


def _is_at_hand(env: Mapping[str, str], provider: str) -> bool:
    """Say whether a secret is set that the provider requires."""
    return any(env.get(name) for name in PROVIDERS[provider].required)


def _region(provider: str, env: Mapping[str, str]) -> str:
    """Return the provider's region from the environment, else its default, else ""."""
    about = PROVIDERS[provider]
    found = next(filter(None, map(env.get, about.region_variables)), None)
    return found or about.default_region


def _machines(provider: str, flags: Flags, questions: _Questions) -> list[str]:
    likely = ", ".join(provider_class(provider).default_machines)
    told = questions.answer("machine", "Machine types, best first", flags.machine, likely)
    return list(dict.fromkeys(part.strip() for part in told.split(",") if part.strip()))


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.-]+", "-", text.lower()).strip("-.") or "gpu"


class _Questions:
    """Takes each answer from its flag, the terminal, or the proposal; notes what it cannot get."""

    def __init__(self, *, flags: Flags, ask: Callable[[str], str] | None) -> None:
        self._yes = flags.yes
        self._ask = ask
        self._missing: dict[str, str] = {}

    def answer(self, flag: str, question: str, given: str, proposal: str) -> str:
        """Return an answer; where there is none, the proposal, and then `finish` raises."""
        if given.strip() or self._yes:
            return given.strip() or proposal
        if self._ask:
            return self._ask(f"{question} [{proposal}]: ").strip() or proposal
        self._missing[f"--{flag}"] = proposal
        return proposal

    def finish(self) -> None:
        """Raise BadInputs if an answer is missing."""
        if not self._missing:
            return
        flags = ", ".join(f"{flag} (such as {value})" for flag, value in self._missing.items())
        raise BadInputs(
            [
                f"Nobody can be asked: the input is not a terminal. Give {flags}, or --yes for all of these."
            ]
        )
