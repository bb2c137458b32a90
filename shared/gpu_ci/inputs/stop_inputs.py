"""The inputs of action-stop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

from gpu_ci.inputs.github_inputs import GitHubInputs
from gpu_ci.inputs.reader import Reader

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpu_ci.model.machine import Machine


RELEASES = ("auto", "terminate", "pause", "keep")


@dataclass(frozen=True, kw_only=True)
class StopInputs:
    """The inputs of action-stop."""

    provider: str
    profile: str
    github: GitHubInputs
    handle: tuple[Machine, ...]
    key: str
    region: tuple[str, ...]
    machine_name: str
    release: Literal["auto", "terminate", "pause", "keep"]
    provider_options: Any

    @classmethod
    def read(cls, env: Mapping[str, str]) -> Self:
        """Read all inputs. Raises BadInputs with every problem in them."""
        reader = Reader(env)
        provider = reader.provider("provider")
        inputs = cls(
            provider=provider,
            profile=reader.text("profile"),
            github=GitHubInputs.read(reader),
            handle=reader.handle("handle", provider),
            key=reader.key(),
            region=reader.several("region"),
            machine_name=reader.machine_name(provider),
            release=reader.choice("release", RELEASES),
            provider_options=reader.options("provider-options", provider),
        )
        reader.look_at_repository()
        if not (inputs.handle or inputs.machine_name or inputs.key or env.get("GITHUB_RUN_ID")):
            reader.problem(
                "key and handle are both empty. In a workflow stop then looks at its own run; "
                "in a terminal there is none: give the key or the handle that start had."
            )
        if inputs.release == "pause" and provider and not reader.keeps(provider):
            reader.problem(f"release: {provider} cannot pause a machine. Use auto or terminate.")
        reader.finish()
        return inputs
