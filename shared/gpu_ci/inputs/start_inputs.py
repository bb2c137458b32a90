"""The inputs of action-start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

from gpu_ci.inputs.github_inputs import GitHubInputs
from gpu_ci.inputs.reader import Reader
from gpu_ci.model.budget import Budget  # noqa: TC001 -- profiles read the types of the fields
from gpu_ci.providers import MARKETS

if TYPE_CHECKING:
    from collections.abc import Mapping


REGISTRATIONS = ("jit", "token")


@dataclass(frozen=True, kw_only=True)
class StartInputs:
    """The inputs of action-start. Times are in seconds here; the action takes minutes.

    `profile` is only for the log: what it gives is already in the other fields.
    """

    provider: str
    profile: str
    github: GitHubInputs
    key: str
    count: int
    labels: tuple[str, ...]
    runner_group: str
    registration: Literal["jit", "token"]
    machine: tuple[str, ...]
    region: tuple[str, ...]
    market: Literal["on-demand", "spot", "spot-then-on-demand"]
    image: str
    disk_gb: int
    machine_name: str
    gpus: int
    online_timeout: float
    max_lifetime: float
    idle: float
    setup_script: str
    provider_options: Any
    budget: Budget
    dry_run: bool

    @classmethod
    def read(cls, env: Mapping[str, str]) -> Self:
        """Read all inputs. Raises BadInputs with every problem in them."""
        reader = Reader(env)
        provider = reader.provider("provider")
        inputs = cls(
            provider=provider,
            profile=reader.text("profile"),
            github=GitHubInputs.read(reader),
            key=reader.key(),
            count=reader.whole("count", 1, least=1, most=50),
            labels=reader.labels("labels"),
            runner_group=reader.text("runner-group"),
            registration=reader.choice("registration", REGISTRATIONS),
            machine=reader.several("machine"),
            region=reader.several("region"),
            market=reader.choice("market", tuple(MARKETS)),
            image=reader.text("image"),
            disk_gb=reader.whole("disk-gb", 0, most=16384),
            machine_name=reader.machine_name(provider),
            gpus=reader.whole("gpus", 1, most=64),
            online_timeout=reader.minutes("online-timeout-minutes", 15),
            max_lifetime=reader.minutes("max-lifetime-minutes", 360),
            idle=reader.minutes("idle-minutes", 10),
            setup_script=reader.raw("setup-script"),
            provider_options=reader.options("provider-options", provider),
            budget=reader.budget("budget"),
            dry_run=reader.flag("dry-run"),
        )
        inputs._look_across(reader)
        reader.finish()
        return inputs

    def _look_across(self, reader: Reader) -> None:
        if not self.github.organization and self.runner_group:
            reader.problem("runner-group needs organization: a repository has only one group.")
        if self.machine_name and self.count > 1:
            reader.problem(
                "count is more than 1, and machine-name names one machine: start it once."
            )
        if self.registration == "token" and reader.keeps(self.provider):
            reader.problem(
                f"registration: token is not for {self.provider}: the registration locks the "
                "machine and says whose it is, so it must exist first. Use jit."
            )
        if self.online_timeout > self.max_lifetime:
            reader.problem("online-timeout-minutes is longer than max-lifetime-minutes.")
        reader.look_at_repository()
