"""What the user wrote for action-gate; every problem is reported at once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Self

from gpu_ci.inputs.reader import Reader
from gpu_ci.providers import is_provider, provider_names

if TYPE_CHECKING:
    from collections.abc import Mapping

NONE: Final = "none"
LABEL: Final = "run-gpu-ci"
SKIP_LABEL: Final = "skip-gpu-ci"
BOTS: Final = ("dependabot[bot]", "renovate[bot]", "pre-commit-ci[bot]", "github-actions[bot]")
FORKS: Final = ("fail", "skip")
# The longest name that GitHub takes for a label.
LABEL_LIMIT: Final = 50
# The region in which a role is assumed by default; the machines may be anywhere.
REGION: Final = "us-east-1"


@dataclass(frozen=True, kw_only=True)
class GateInputs:
    """The inputs of action-gate. `label`, `skip_label` and `bots` are empty for `none`; empty
    `branches` mean the default branch."""

    label: str
    skip_label: str
    keep_label: bool
    branches: tuple[str, ...]
    bots: tuple[str, ...]
    forks: Literal["fail", "skip"]
    profile: str
    machine_name: str
    provider: str
    aws_role: str
    aws_region: str
    github_api_url: str

    @classmethod
    def read(cls, env: Mapping[str, str]) -> Self:
        """Read all inputs. Raises BadInputs with every problem in them."""
        reader = GateReader(env)
        inputs = cls(
            label=reader.label("label", LABEL),
            skip_label=reader.label("skip-label", SKIP_LABEL),
            keep_label=reader.flag("keep-label"),
            branches=reader.several("branches"),
            bots=reader.bots("bots"),
            forks=reader.choice("forks", FORKS),
            profile=reader.text("profile"),
            machine_name=reader.machine_name(""),
            provider=reader.known_provider("provider"),
            aws_role=reader.role("aws-role"),
            aws_region=reader.region("aws-region"),
            github_api_url=reader.url("github-api-url", "https://api.github.com"),
        )
        inputs._look_across(reader)
        reader.finish()
        return inputs

    def _look_across(self, reader: GateReader) -> None:
        if self.label and self.label.casefold() == self.skip_label.casefold():
            reader.problem(
                f"label and skip-label are both {self.label!r}: one of them must differ."
            )
        reader.look_at_repository()


class GateReader(Reader):
    """Reads what only this action has."""

    def label(self, name: str, default: str) -> str:
        """Read the name of a label; `none` gives ""."""
        text = self.text(name, default)
        if len(text) > LABEL_LIMIT or not text.isprintable() or not text.strip("."):
            self.problem(
                f"{name} is {text!r}; it must be a label of an issue, one line of at most "
                f"{LABEL_LIMIT} characters, or {NONE}."
            )
        return "" if text == NONE else text

    def bots(self, name: str) -> tuple[str, ...]:
        """Read logins; `none` alone gives none."""
        given = self.several(name) or BOTS
        return () if given == (NONE,) else given

    def known_provider(self, name: str) -> str:
        """Read a provider. Its secrets are not needed here, and a profile may name it later."""
        text = self.text(name)
        if text and not is_provider(text):
            self.problem(f"{name} is {text!r}; it must be one of {', '.join(provider_names())}.")
        return text

    def role(self, name: str) -> str:
        text = self.text(name)
        if text and not re.fullmatch(r"[\w+=,.@:/-]{1,2048}", text):
            self.problem(f"{name} is {text!r}; it must be a role's ARN, arn:aws:iam::…:role/….")
        return text

    def region(self, name: str) -> str:
        text = self.text(name, REGION)
        if not re.fullmatch(r"[a-z0-9-]+", text):
            self.problem(f"{name} is {text!r}; it must be one region of AWS, such as {REGION}.")
        return text
