"""What a provider says about itself, to be read without loading it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, kw_only=True)
class Secret:
    """A secret that an environment variable carries.

    The shipped workflows take it as the secret `taken_as`, "" where none of them does. `words` tell
    a user what it is. Without a `required` one the cloud answers nothing; the others are for some
    users only, or stand in for a login.
    """

    taken_as: str = ""
    words: str
    required: bool = False


@dataclass(frozen=True, kw_only=True)
class About:
    """One provider, as the rest of the library knows it before it loads the class.

    name: what the input `provider` says.
    title: what people call the cloud.
    class_path: `module:Class`, for a provider in this package; an entry point says it for others.
    ends_itself: whether a machine ends what is billed by itself. Where it cannot, stop or the
        scheduled watchdog has to.
    keeps: whether the class is a `Keeper`.
    secrets: each environment variable that may carry a secret of the cloud. Every step masks them.
    extra: the extra of this package that installs its SDK, "" where it needs none.
    region_variables: the environment variables that name a region; the first that is set counts.
    default_region: what `gpu-ci init` writes where none of these is set, "" for no region.
    one_type: whether it has one type of machine, which nobody names.
    """

    name: str
    title: str
    class_path: str = ""
    ends_itself: bool
    keeps: bool = False
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    extra: str = ""
    region_variables: tuple[str, ...] = ()
    default_region: str = ""
    one_type: bool = False

    @property
    def required(self) -> tuple[str, ...]:
        """The variables without which the cloud answers nothing."""
        return tuple(name for name, secret in self.secrets.items() if secret.required)

    @property
    def install(self) -> str:
        """How to get the packages that it needs, for an error in which one is missing."""
        return (
            f"Install the extra `{self.extra}`: pip install 'gpu-ci[{self.extra}]', or "
            f"uv sync --extra {self.extra}."
        )
