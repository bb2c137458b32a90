"""The contract of a provider, the list of them all, and how one is made.

A provider is one class and its `About`. It knows its cloud and nothing of GitHub. In this package
it is a folder whose `__init__` holds only the `About`, so that each step can read all of them;
other packages name their class by an entry point. `docs/how-to/own-provider.md` shows both ways.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, fields
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, cast

from gpu_ci.errors import BadInputs, EnvironmentBroken
from gpu_ci.providers import ec2, entry_points, jarvislabs, local

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from gpu_ci.boot.script import Place
    from gpu_ci.model.machine import Machine, Price, State
    from gpu_ci.model.tags import Tags
    from gpu_ci.providers.about import About
    from gpu_ci.runtime.clock import Clock


MARKETS: Final[Mapping[str, Sequence[str]]] = {
    "on-demand": ("on-demand",),
    "spot": ("spot",),
    "spot-then-on-demand": ("spot", "on-demand"),
}
"""The values of the input `market`, and the markets that each of them tries, in order."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One way to get a machine; an empty `zone` leaves the choice to the cloud.

    `market` is `on-demand` or `spot`.
    """

    type: str
    region: str = ""
    zone: str = ""
    market: str = "on-demand"

    def __str__(self) -> str:
        where = self.zone or self.region
        return " ".join(part for part in (self.type, where, self.market) if part)


@dataclass(frozen=True, kw_only=True)
class Order:
    """What `launch` is asked for.

    `token` makes the create call idempotent: the same order sent twice is one machine. `image` and
    `disk_gb` are empty or 0 for the provider's own choice. `kept` says that the machine has a name
    of its own, `tags.name`, and stays after the run; its candidate's type may be empty then, for
    the type that it has.
    """

    candidate: Candidate
    tags: Tags
    token: str
    boot_script: str
    image: str = ""
    disk_gb: int = 0
    kept: bool = False


@dataclass(frozen=True, kw_only=True)
class Check:
    """One line of a preflight: what was looked at, whether it is well, and the cure if not."""

    what: str
    ok: bool
    detail: str = ""
    cure: str = ""


class Provider(Protocol):
    """What every provider does. `gpu_ci_sandbox.contract` holds all of them to it, and
    `gpu_ci.providers.defaults` has the answers of a plain one.

    Errors are the classes of `gpu_ci.errors` below `CloudError`, each with its cure in words.
    """

    about: ClassVar[About]
    """What it says about itself."""

    name: ClassVar[str]
    """That of `about`."""

    Options: ClassVar[type[Any]]
    """A frozen dataclass of strings, integers, booleans and tuples of strings, all with defaults:
    what `provider-options` may hold for this provider, written with underscores or hyphens."""

    default_machines: Sequence[str]
    """Types to ask for when the user names none."""

    default_regions: Sequence[str]
    """Regions to ask in when the user names none, from the SDK's own environment."""

    def __init__(self, options: Any, env: Mapping[str, str], clock: Clock) -> None:
        """Take options and environment; no I/O, no import of an SDK."""

    def split_region(self, text: str) -> tuple[str, str]:
        """Return (region, zone) for what a user wrote under `region`; the zone may be empty."""

    def zones(self, candidate: Candidate) -> Sequence[Candidate]:
        """Return the same candidate in each zone that may have it, after the cloud's own choice
        of a zone had no capacity. Empty where there is nothing narrower to try."""

    def place(self, name: str) -> Place:
        """Return what the boot script must know of the machine that will have this name."""

    def check(self, order: Order) -> Iterator[Check]:
        """Look at rights, quota, image and so on, without spending anything."""

    def launch(self, order: Order) -> Machine:
        """Ask for one machine and return as soon as the cloud has accepted; don't wait for it.

        The tags go into the create call itself. After any error but `CloudUnreachable` there is no
        machine; after that one there may be, and `find` tells. Raises `NoCapacity` or `WrongHere`
        where the next candidate may do; `QuotaExceeded`, `NotPermitted` and `WrongRequest` where
        it would not.
        """

    def find(self, wanted: Mapping[str, str], regions: Sequence[str]) -> Sequence[Machine]:
        """Return every machine of ours not yet ending or gone whose tags have these values.

        `wanted` maps fields of `Tags` to values. No regions means all that the account may use.
        Complete or an error: a region that does not answer is never passed over. A cloud without
        tags knows what the name tells (`identity.read_name`), and leaves the other fields empty.
        Kept machines are not among them: they are asked for by name.
        """

    def state(self, machine: Machine) -> State:
        """Say how the machine is. One that the cloud no longer knows is GONE, except in the first
        two minutes after its launch, when clouds may not know it yet: then it is PENDING.

        One that this process has released is ENDING or GONE at once, however young it is: a cloud
        whose list drops ended machines has to be asked for it by its id, or the release noted.
        """

    def release(self, machine: Machine) -> None:
        """End the machine, and return when the cloud says that it is no longer billed.

        A machine that is gone is a success; releasing twice is once.
        """

    def boot_log(self, machine: Machine) -> str:
        """Return what the boot script has said so far, or "" where the cloud cannot tell (yet)."""

    def price(self, machine: Machine) -> Price | None:
        """Return the current price, None where no source answers. Never raises a CloudError."""

    def taken_back(self, machine: Machine) -> str:
        """Return why the cloud itself has ended a machine, "" where it did not, or does not tell.

        Asked before the machine is released. Never raises a CloudError.
        """

    def hurry(self) -> None:
        """Make every later call end, with an answer or an error, within about two seconds."""


class Keeper(Provider, Protocol):
    """A provider that can keep a named machine between runs: pause it, and resume it.

    The caller of `adopt`, `resume` or `pause`, or of `launch` for a kept order, holds the machine's
    lock (`gpu_ci.kept.lock`): no other run of this library touches it meanwhile.
    """

    def kept(self, name: str) -> tuple[Machine, State] | None:
        """Return the machine that has exactly this name, and how it is, both by one full answer.

        None when there is none. Raises NameShared when several have the name. Its tags hold the
        name only; while it is on its way from one state to another it is PENDING.
        """

    def resume(self, machine: Machine, order: Order) -> Machine:
        """Resume a paused machine with this boot script; return when the cloud has accepted.

        The machine that is returned may have another id. After a lost answer it looks for the
        machine by its name and never asks twice. Errors as of `launch`.
        """

    def adopt(self, machine: Machine, order: Order) -> Machine | None:
        """Run the boot script on a machine that is running; None where there is no way in.

        `started` of the result says whether this library started the machine: then it is to be
        paused, otherwise it is left running as it was found.
        """

    def pause(self, machine: Machine) -> None:
        """Pause the machine of this name, and return when the cloud says that it is paused.

        It waits until a machine that is on its way can be paused, reads back what came of it, and
        believes no answer but "paused". One that is paused or gone is a success. In a hurry it
        returns when the pause was accepted. Raises CloudError when it is not paused in time.
        """

    def upkeep(self, machine: Machine) -> Price | None:
        """Return what the machine costs while it is paused, None where no source answers."""


PROVIDERS: Final[dict[str, About]] = {
    each.name: each for each in (ec2.ABOUT, jarvislabs.ABOUT, local.ABOUT)
}
"""The providers of this package. `provider_names` knows those of other packages too."""


def provider_names() -> list[str]:
    """Return the name of every provider: those of this package, then those of other ones."""
    return [*PROVIDERS, *(name for name in entry_points.installed() if name not in PROVIDERS)]


def is_provider(name: str) -> bool:
    """Say whether there is a provider of this name."""
    return name in PROVIDERS or name in entry_points.installed()


def about(name: str) -> About:
    """Return what a provider says about itself; one of another package is loaded for it.

    Raises KeyError for an unknown name, EnvironmentBroken where it cannot be loaded.
    """
    return PROVIDERS[name] if name in PROVIDERS else provider_class(name).about


def provider_class(name: str) -> type[Provider]:
    """Return the class of a provider. Raises KeyError and EnvironmentBroken, as `about` does."""
    if name not in PROVIDERS:
        return entry_points.load(name)
    module, _, attribute = PROVIDERS[name].class_path.partition(":")
    found: type[Provider] = getattr(import_module(module), attribute)
    return found


def secret_variables() -> list[str]:
    """Return every environment variable that may carry a secret of a provider that is installed.

    A provider of another package that cannot be loaded has none: a step that names it ends with
    the reason, and one that does not must not fail for it.
    """
    names: list[str] = []
    for name in provider_names():
        with suppress(EnvironmentBroken):
            names += about(name).secrets
    return names


def keeper(provider: Provider) -> Keeper:
    """Return the same provider as one that keeps machines. Raises TypeError when it is none."""
    if not provider.about.keeps:
        raise TypeError(f"{provider.name} keeps no machines")
    return cast("Keeper", provider)


def read_options(options_class: type[Any], given: Mapping[str, Any]) -> Any:
    """Make a provider's options from the JSON of `provider-options`.

    Raises BadInputs that names every key that is unknown or has the wrong type.
    """
    known = {field.name: field for field in fields(options_class)}
    values: dict[str, Any] = {}
    problems: list[str] = []
    for key, value in given.items():
        name = key.replace("-", "_")
        if name not in known:
            problems.append(_unknown_option(key, list(known)))
        elif (converted := _as_type(value, str(known[name].type))) is None:
            problems.append(f"provider-options: {key} must be {_in_words(str(known[name].type))}.")
        else:
            values[name] = converted
    if problems:
        raise BadInputs(problems)
    return options_class(**values)


def _unknown_option(key: str, known: Sequence[str]) -> str:
    import difflib  # noqa: PLC0415 -- loaded for a misspelt name alone

    names = [name.replace("_", "-") for name in known]
    near = difflib.get_close_matches(key.replace("_", "-"), names, 1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"provider-options: {key} is not known.{hint} Known are: {', '.join(names) or 'none'}."


def _as_type(value: Any, annotation: str) -> Any:
    """Return the value as the annotated type, None when it is of another one."""
    match annotation:
        case "str" if isinstance(value, str):
            return value
        case "bool" if isinstance(value, bool):
            return value
        case "int" if isinstance(value, int) and not isinstance(value, bool):
            return value
        case "tuple[str, ...]" if isinstance(value, str):
            return (value,)
        case "tuple[str, ...]" if isinstance(value, list) and all(
            isinstance(v, str) for v in value
        ):
            return tuple(value)
        case _:
            return None


def _in_words(annotation: str) -> str:
    return {
        "str": "a string",
        "bool": "true or false",
        "int": "a whole number",
        "tuple[str, ...]": "a string or a list of strings",
    }[annotation]
