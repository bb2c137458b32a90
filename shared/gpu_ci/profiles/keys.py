"""Which keys a profile may have and what each may hold, by the code of the inputs themselves. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

from gpu_ci.inputs.reader import input_names
from gpu_ci.inputs.start_inputs import StartInputs
from gpu_ci.inputs.stop_inputs import RELEASES, StopInputs
from gpu_ci.providers import PROVIDERS

Kind = Literal["text", "whole", "minutes", "several", "choice", "options"]

# What never goes into a file of the repository, spelled as the workflows spell their secrets.
SECRETS: Final = (
    "github-token",
    "app-private-key",
    *(name.lower().replace("_", "-") for each in PROVIDERS.values() for name in each.secrets),
)
# The inputs of action-start that a profile may give. A new input counts only once it is named here.
# None of them has a default in action.yml: it would outrank every profile.
OF_A_MACHINE: Final = (
    "provider", "app-id", "organization", "count", "labels", "runner-group", "registration",
    "machine", "region", "market", "image", "disk-gb", "machine-name", "gpus",
    "online-timeout-minutes", "max-lifetime-minutes", "idle-minutes", "setup-script",
    "provider-options", "budget",
)  # fmt: skip
# Inputs of one step, not of a machine: a profile that has one is refused for that reason.
OF_THE_STEP: Final = ("profile", "github-api-url", "key", "dry-run")


@dataclass(frozen=True, kw_only=True)
class Key:
    """What one key of a profile may hold; `choices` are all the values of a choice."""

    kind: Kind
    choices: tuple[str, ...] = ()


def _key(name: str) -> Key:
    """Return what an input of action-start holds, by the type of its field."""
    if name == "provider":
        return Key(kind="choice", choices=tuple(PROVIDERS))
    hints = get_type_hints(StartInputs)
    field = name.removesuffix("-minutes").replace("-", "_")
    return _of_type(hints.get(field, str))


def _of_type(hint: Any) -> Key:
    if get_origin(hint) is Literal:
        return Key(kind="choice", choices=get_args(hint))
    if get_origin(hint) is tuple:
        return Key(kind="several")
    kinds: dict[Any, Kind] = {int: "whole", float: "minutes", str: "text", Any: "options"}
    return Key(kind=kinds.get(hint, "text"))


KEYS: Final = {
    **{name: _key(name) for name in OF_A_MACHINE},
    "release": Key(kind="choice", choices=RELEASES),
    "aws-role": Key(kind="text"),
    "aws-region": Key(kind="text"),
}
# What a stop takes of a profile: `gpu_ci.profiles.applied_to_stop` says why `region` is left out.
OF_A_STOP: Final = tuple(
    name for name in input_names(StopInputs) if name in KEYS and name != "region"
)
