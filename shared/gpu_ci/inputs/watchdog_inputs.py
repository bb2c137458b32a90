"""The inputs of action-watchdog."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

from gpu_ci.inputs.github_inputs import GitHubInputs
from gpu_ci.inputs.reader import Reader

if TYPE_CHECKING:
    from collections.abc import Mapping


SCOPES = ("run", "repository")


UNTIL = ("picked-up", "done", "once")


@dataclass(frozen=True, kw_only=True)
class WatchdogInputs:
    """The inputs of action-watchdog. Times are in seconds here; the action takes minutes.

    `provider_options` has the options of each of `providers`, by its name.
    """

    scope: Literal["run", "repository"]
    github: GitHubInputs
    queue: float
    until: Literal["picked-up", "done", "once"]
    labels: tuple[str, ...]
    providers: tuple[str, ...]
    region: tuple[str, ...]
    machine_name: tuple[str, ...]
    provider_options: Mapping[str, Any]
    cache_dir: str
    dry_run: bool
    max_actions: int

    @classmethod
    def read(cls, env: Mapping[str, str]) -> Self:
        """Read all inputs. Raises BadInputs with every problem in them."""
        reader = Reader(env)
        providers = reader.providers("providers")
        inputs = cls(
            scope=reader.choice("scope", SCOPES),
            github=GitHubInputs.read(reader, spare=env.get("GPU_CI_RUN_TOKEN", "")),
            queue=reader.minutes("queue-minutes", 15),
            until=reader.choice("until", UNTIL),
            labels=reader.several("labels"),
            providers=providers,
            region=reader.several("region"),
            machine_name=reader.machine_names(providers),
            provider_options=reader.options_of_each("provider-options", providers),
            cache_dir=reader.text("cache-dir"),
            dry_run=reader.flag("dry-run"),
            max_actions=reader.whole("max-actions", 20, most=1000),
        )
        inputs._look_across(reader, env)
        reader.look_at_repository()
        reader.finish()
        return inputs

    def _look_across(self, reader: Reader, env: Mapping[str, str]) -> None:
        if self.scope == "run" and not env.get("GITHUB_RUN_ID"):
            reader.problem(
                "scope is run, and there is none: GITHUB_RUN_ID is not set. In a terminal use "
                "--scope repository."
            )
        if self.scope == "run" and (self.providers or self.machine_name):
            reader.problem(
                "providers and machine-name are for scope: repository. In a run, action-stop gives "
                "its machines back."
            )
        if self.region and len(self.providers) != 1:
            reader.problem(
                "region is for exactly one provider. Leave it empty, which means all regions, or "
                "have a step for each provider."
            )
