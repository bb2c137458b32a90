"""Reads inputs one by one and collects what is wrong with them."""

from __future__ import annotations

import json
import math
import re
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from gpu_ci.errors import BadInputs
from gpu_ci.model.budget import Budget
from gpu_ci.model.machine import Machine, from_handle
from gpu_ci.providers import (
    PROVIDERS,
    about,
    is_provider,
    provider_class,
    provider_names,
    read_options,
    secret_variables,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence


KEY_LIMIT = 100


OF_GITHUB = ("INPUT_GITHUB_TOKEN", "INPUT_APP_PRIVATE_KEY", "GPU_CI_RUN_TOKEN")


class _CarrySecrets:
    """Yields the variables anew each time: other packages' providers are looked up on demand."""

    def __iter__(self) -> Iterator[str]:
        yield from OF_GITHUB
        yield from secret_variables()


# The variables that carry secrets into a step, for any provider: all are masked.
CARRY_SECRETS: Iterable[str] = _CarrySecrets()


WITHOUT_CREDENTIALS = (
    "github-token is empty. A token that may administer runners is needed: a classic token with "
    "`repo`, a fine-grained one with Administration: write, or app-id and app-private-key; the "
    "workflow's own GITHUB_TOKEN can never register a runner. If the secret exists, this run does "
    "not get it: pull requests from forks and from Dependabot run without secrets."
)


ONE_UNSET = (
    "{0} is not set: it has to come from a secret of the repository or organisation, as an input of "
    "this step or, in capitals, in its env. If the secret exists, this run does not get it: pull requests from forks and from Dependabot "
    "run without secrets."
)


SEVERAL_UNSET = (
    "This run has no secrets ({0} are empty), and without them there is no machine. A run "
    "of a pull request from a fork or from Dependabot has none: a maintainer can run it from a branch "
    "of the repository. If this is such a branch, the secrets are missing in the settings."
)


class Reader:
    """Reads inputs one by one and collects what is wrong with them."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.env = env
        self.missing: list[str] = []
        self._problems: list[str] = []

    def problem(self, text: str) -> None:
        """Note a problem, on one line: what it quotes must not split it into paragraphs."""
        self._problems.append(" ".join(text.split()))

    def finish(self) -> None:
        """Raise BadInputs if there was any problem."""
        if self.missing == ["github-token"]:
            self.problem(WITHOUT_CREDENTIALS)
        elif self.missing:
            text = ONE_UNSET if len(self.missing) == 1 else SEVERAL_UNSET
            self.problem(text.format(" and ".join(self.missing)))
        if self._problems:
            raise BadInputs(self._problems)

    def look_at_repository(self) -> None:
        if not re.fullmatch(r"[^/\s]+/[^/\s]+", self.env.get("GITHUB_REPOSITORY", "")):
            self.problem(
                "GITHUB_REPOSITORY is not set to owner/name. In a workflow the runner sets it; in a "
                "terminal give --repository owner/name."
            )

    def budget(self, name: str) -> Budget:
        try:
            return Budget.read(self.several(name))
        except ValueError as error:
            self.problem(f"{name}: {error}.")
            return Budget()

    def raw(self, name: str) -> str:
        return self.env.get(variable(name), "")

    def text(self, name: str, default: str = "") -> str:
        return self.raw(name).strip() or default

    def several(self, name: str) -> tuple[str, ...]:
        """Read a list separated by commas or line ends; duplicates count once."""
        parts = (part.strip() for part in re.split(r"[,\n]", self.raw(name)))
        return tuple(dict.fromkeys(part for part in parts if part))

    def whole(self, name: str, default: int, *, least: int = 0, most: int) -> int:
        text = self.text(name)
        if not text:
            return default
        if re.fullmatch(r"\d{1,9}", text) and least <= int(text) <= most:
            return int(text)
        self.problem(f"{name} is {text!r}; it must be a whole number from {least} to {most}.")
        return default

    def minutes(self, name: str, default: float) -> float:
        """Read minutes, decimals allowed; return seconds."""
        text = self.text(name)
        try:
            value = float(text) if text else default
        except ValueError:
            value = math.nan
        if not 0 < value <= 7 * 24 * 60:
            self.problem(f"{name} is {text!r}; it must be minutes, more than 0, at most a week.")
            return default * 60
        return value * 60

    def choice(self, name: str, choices: tuple[str, ...]) -> Any:
        text = self.text(name, choices[0])
        if text in choices:
            return text
        self.problem(f"{name} is {text!r}; it must be one of {', '.join(choices)}.")
        return choices[0]

    def flag(self, name: str) -> bool:
        text = self.text(name, "false").lower()
        if text not in {"true", "false"}:
            self.problem(f"{name} is {text!r}; it must be true or false.")
        return text == "true"

    def matching(self, name: str, pattern: str) -> str:
        text = self.text(name)
        if text and not re.fullmatch(pattern, text):
            self.problem(f"{name} is {text!r}; that is not a name that GitHub gives.")
        return text

    def url(self, name: str, default: str) -> str:
        text = self.text(name, default).rstrip("/")
        if not re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", text):
            self.problem(f"{name} is {text!r}; it must be the root of a REST API, https://….")
        return text

    def labels(self, name: str) -> tuple[str, ...]:
        labels = self.several(name)
        for label in labels:
            if not re.fullmatch(r"[\w.:/+-]{1,256}", label):
                self.problem(
                    f"{name}: {label!r} is no runner label (letters, digits, . _ - : / +)."
                )
        return labels

    def key(self) -> str:
        key = self.text("key")
        if len(key) > KEY_LIMIT or not key.isprintable():
            self.problem(f"key must be one line of at most {KEY_LIMIT} characters.")
        return key

    def provider(self, name: str) -> str:
        text = self.text(name)
        if is_provider(text):
            self._need_secrets(text)
            return text
        problem = f"{name} is {text!r}" if text else f"{name} is missing"
        self.problem(f"{problem}; it must be one of {', '.join(provider_names())}.")
        return ""

    def providers(self, name: str) -> tuple[str, ...]:
        """Read a list of providers, each with the secrets that it needs."""
        given = self.several(name)
        known = tuple(filter(is_provider, given))
        for unknown in (each for each in given if each not in known):
            self.problem(f"{name}: {unknown!r} is none of {', '.join(provider_names())}.")
        self._need_secrets(*known)
        return known

    def _need_secrets(self, *providers: str) -> None:
        for each in providers:
            self.missing += [name for name in about(each).required if not self.env.get(name)]

    @staticmethod
    def keeps(provider: str) -> bool:
        """Say whether the provider keeps named machines; False for one that is not known."""
        return bool(provider) and about(provider).keeps

    def machine_name(self, provider: str) -> str:
        """Read the name of a kept machine, which is a runner's name too."""
        name = self.text("machine-name")
        if name and provider and not self.keeps(provider):
            self.problem(
                f"machine-name is for providers that keep a machine; {provider} makes a new one "
                "for each start. Remove machine-name, or name the type under machine."
            )
        elif name:
            self._look_at_machine_name(name)
        return name

    def machine_names(self, providers: Sequence[str]) -> tuple[str, ...]:
        """Read the names of kept machines; at least one of the providers must keep machines."""
        names = self.several("machine-name")
        for name in names:
            self._look_at_machine_name(name)
        if names and not any(map(self.keeps, providers)):
            keeping = ", ".join(filter(self.keeps, PROVIDERS))
            self.problem(f"machine-name needs a provider that keeps machines: {keeping}.")
        return names

    def _look_at_machine_name(self, name: str) -> None:
        if not re.fullmatch(r"(?!gpu-ci-\d+-)[A-Za-z0-9_-]{1,40}", name):
            self.problem(
                f"machine-name is {name!r}; it must be 1 to 40 letters, digits, - and _, and not "
                "begin like the names that this library gives to machines of one run."
            )

    def options(self, name: str, provider: str) -> Any:
        return self._options(self._object(name), provider)

    def options_of_each(self, name: str, providers: Sequence[str]) -> Mapping[str, Any]:
        """Read one provider's options, or an object with the options of each under its name."""
        given = self._object(name)
        if len(providers) == 1 and not isinstance(given.get(providers[0]), dict):
            given = {providers[0]: given}
        for unknown in set(given) - set(providers):
            self.problem(
                f"{name}: {unknown!r} is none of providers. With several write an object for each: "
                '{"ec2": {…}, "jarvislabs": {…}}.'
            )
        return {each: self._options(given.get(each, {}), each) for each in providers}

    def _object(self, name: str) -> Mapping[str, Any]:
        try:
            given = json.loads(self.text(name, "{}"))
        except (ValueError, RecursionError) as error:
            self.problem(f"{name} is not JSON ({error}). Write an object: {{}} or {{…: …}}.")
            return {}
        if not isinstance(given, dict):
            self.problem(f"{name} must be a JSON object, such as {{}}.")
            return {}
        return given

    def _options(self, given: Any, provider: str) -> Any:
        if not provider:
            return None
        options_class = provider_class(provider).Options
        try:
            return read_options(options_class, given if isinstance(given, dict) else {})
        except BadInputs as bad:
            for problem in bad.problems:
                self.problem(problem)
            return options_class()

    def handle(self, name: str, provider: str) -> tuple[Machine, ...]:
        text = self.text(name)
        if not text:
            return ()
        try:
            machines = from_handle(text)
        except ValueError as error:
            self.problem(
                f"{name} is not what action-start gave out ({error}). Pass its output "
                "`handle` unchanged, or leave it empty: stop then looks by the run's tags."
            )
            return ()
        for other in {machine.provider for machine in machines} - {provider}:
            self.problem(f"{name} was started by provider {other!r}, not {provider!r}.")
        return machines


def variable(name: str) -> str:
    """Return the environment variable that carries an input."""
    return "INPUT_" + name.upper().replace("-", "_")


def input_names(inputs: type[Any]) -> list[str]:
    """Return the kebab-case names of an action's inputs, in the order of its fields."""
    names: list[str] = []
    for each in fields(inputs):
        names.extend(_GROUPED.get(each.name, (each.name.replace("_", "-"),)))
    return names


_GROUPED = {
    "github": ("github-token", "app-id", "app-private-key", "github-api-url", "organization"),
    "online_timeout": ("online-timeout-minutes",),
    "max_lifetime": ("max-lifetime-minutes",),
    "idle": ("idle-minutes",),
    "queue": ("queue-minutes",),
}
