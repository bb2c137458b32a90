"""JarvisLabs: machines that are rented for one run, and named ones that are paused between runs.

The cloud has no tags, no idempotency and no events: a machine is known by its name, every call that
may have done something is followed by a look, and what a run needs is asked for again each time.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Final

from gpu_ci.boot.script import Place
from gpu_ci.errors import CloudError, CloudUnreachable, NoSuchMachine
from gpu_ci.model.machine import Price, State
from gpu_ci.model.tags import read_name
from gpu_ci.providers import Candidate
from gpu_ci.providers.defaults import Defaults, unlisted
from gpu_ci.providers.jarvislabs import ABOUT
from gpu_ci.providers.jarvislabs.api import HOSTS, Api, unknown_region
from gpu_ci.providers.jarvislabs.catalogue import Catalogue, Wanted
from gpu_ci.providers.jarvislabs.create_and_resume import Starting
from gpu_ci.providers.jarvislabs.machine_rows import Instances, machine_of, only_name
from gpu_ci.providers.jarvislabs.options import JarvisLabsOptions
from gpu_ci.providers.jarvislabs.pause_and_destroy import Ending
from gpu_ci.providers.jarvislabs.preflight_checks import Preflight
from gpu_ci.providers.jarvislabs.ssh_access import Access
from gpu_ci.providers.jarvislabs.startup_scripts import Scripts, place_of, places, refuse_foreign
from gpu_ci.providers.jarvislabs.startup_text import HOME, ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from gpu_ci.model.machine import Machine
    from gpu_ci.providers import Check, Order
    from gpu_ci.providers.about import About
    from gpu_ci.providers.jarvislabs.machine_rows import Instance
    from gpu_ci.runtime.clock import Clock

# The list price of August 2026, in USD per GB and hour; running and paused.
DISK_PRICE: Final = 0.00014


class JarvisLabs(Defaults):
    """The provider `jarvislabs`; safe to use from several threads.

    A machine cannot pause or end itself, since that would need the account's key on it: when its
    runner is done it only stops working, and stop, or the watchdog, ends what is billed.
    """

    about: ClassVar[About] = ABOUT
    name: ClassVar[str] = ABOUT.name
    Options: ClassVar[type[JarvisLabsOptions]] = JarvisLabsOptions
    # The cheapest GPU that is sold in more than one region.
    default_machines: Sequence[str] = ("L4",)
    default_regions: Sequence[str] = tuple(HOSTS)

    def __init__(self, options: JarvisLabsOptions, env: Mapping[str, str], clock: Clock) -> None:
        self._options = options
        self._env = env
        self._clock = clock
        self._api = Api(env, clock)
        self._instances = Instances(self._api)
        self._catalogue = Catalogue(self._api)
        self._scripts = Scripts(self._api)
        self._access = Access(self._api, env)
        self._starting = Starting(
            api=self._api,
            clock=clock,
            instances=self._instances,
            catalogue=self._catalogue,
            scripts=self._scripts,
            access=self._access,
            options=options,
        )
        self._ending = Ending(api=self._api, clock=clock, instances=self._instances)

    def place(self, name: str) -> Place:  # noqa: ARG002 -- the same for every machine
        return Place(root=ROOT, user=self._options.user, home=HOME, ends_by="exit")

    def check(self, order: Order) -> Iterator[Check]:
        order = self._with_region(order)
        preflight = Preflight(
            api=self._api,
            instances=self._instances,
            catalogue=self._catalogue,
            scripts=self._scripts,
            order=order,
        )
        known = preflight.key_and_balance()
        yield known
        if known.ok:
            yield from preflight.rest(lambda found: self._wanted(order, found))

    def launch(self, order: Order) -> Machine:
        """Create a machine of the order's name.

        One that has the name already is this order's, unless it is kept: then the caller has just
        seen that there is none.
        """
        order = self._with_region(order)
        began = self._clock.now()
        found = None if order.kept else self._same_order(order)
        return machine_of(
            found or self._starting.create(order), order.tags, launched_at=began, kept=order.kept
        )

    def find(self, wanted: Mapping[str, str], regions: Sequence[str]) -> Sequence[Machine]:
        """One list has the machines of all regions."""
        for region in regions:
            _refuse_unknown(region)
        rows = self._api.within_hurry(self._instances.all, "list the machines")
        ours = [_found(row, wanted) for row in rows if not regions or row.region in regions]
        return [machine for machine in ours if machine]

    def state(self, machine: Machine) -> State:
        """As the list shows it. A virtual machine that waits for its boot script gets it here."""
        found = self._api.within_hurry(
            lambda: self._look(machine), f"tell the state of {machine.describe()}"
        )
        if found is None:
            return unlisted(machine, self._clock.now())
        if found.state is State.RUNNING and not self._api.hurried:
            self._access.advance(found)
        return found.state

    def release(self, machine: Machine) -> None:
        """Destroy it and what it had on the account."""
        self._api.within_hurry(lambda: self._release(machine), f"destroy {machine.describe()}")

    def boot_log(self, machine: Machine) -> str:
        """The end of the log over SSH, where there is a key; the API has no log."""
        with suppress(CloudError):  # the caller looks at the state next, which raises the same
            return self._api.within_hurry(lambda: self._boot_log(machine), "show the boot log")
        return ""

    def price(self, machine: Machine) -> Price | None:
        with suppress(CloudError):  # a price is nice to know, and no reason to fail
            return self._api.within_hurry(lambda: self._price(machine), "tell the price")
        return None

    def hurry(self) -> None:
        self._api.hurried = True

    def kept(self, name: str) -> tuple[Machine, State] | None:
        found = self._api.within_hurry(lambda: self._instances.one(name), f"look for {name}")
        return (machine_of(found, only_name(name), kept=True), found.state) if found else None

    def resume(self, machine: Machine, order: Order) -> Machine:
        """Raises InUse when it is not paused any more, NoSuchMachine when it is gone."""
        began = self._clock.now()
        up = self._starting.resume(self._there(machine), order)
        return machine_of(up, order.tags, launched_at=began, kept=True)

    def adopt(self, machine: Machine, order: Order) -> Machine | None:
        """There is a way in where JL_SSH_KEY has a private key of the account.

        Raises NotPermitted, before anything, for a machine that serves only others.
        """
        self._refuse_others(replace(machine, tags=order.tags))
        found = self._there(machine)
        began = self._clock.now()
        if found.state is not State.RUNNING:
            return None
        by_us = self._access.adopt(found, order.boot_script)
        if by_us is None:
            return None
        return machine_of(found, order.tags, launched_at=began, kept=True, started=by_us)

    def pause(self, machine: Machine) -> None:
        """Raises NotPermitted, before anything, for a machine that serves only others."""
        self._api.within_hurry(lambda: self._pause(machine), f"pause {machine.describe()}")

    def upkeep(self, machine: Machine) -> Price | None:
        """Its disk at the list price of August 2026."""
        with suppress(CloudError):
            found = self._api.within_hurry(lambda: self._look(machine), "tell the disk")
            if found and found.disk_gb:
                source = f"JarvisLabs' list price of August 2026 for {found.disk_gb} GB of disk"
                return Price(per_hour=found.disk_gb * DISK_PRICE, source=source)
        return None

    def _with_region(self, order: Order) -> Order:
        region = order.candidate.region or self.default_regions[0]
        _refuse_unknown(region)
        return replace(order, candidate=replace(order.candidate, region=region))

    def _same_order(self, order: Order) -> Instance | None:
        named = self._instances.named(order.tags.name)
        alive = [each for each in named if each.state not in {State.ENDING, State.FAILED}]
        return next(iter(alive), None)

    def _there(self, machine: Machine) -> Instance:
        found = self._instances.one(machine.name, machine.id)
        if found is None:
            raise NoSuchMachine(
                f"No machine is named {machine.name!r} any more.",
                "It was removed or renamed at https://jarvislabs.ai meanwhile.",
            )
        return found

    def _look(self, machine: Machine) -> Instance | None:
        """A kept machine may have another id since its last resume: its name counts."""
        if machine.kept:
            return self._instances.one(machine.name, machine.id)
        return self._instances.by_id(machine.id)

    def _release(self, machine: Machine) -> None:
        rows = self._instances.all()
        found = next((each for each in rows if each.id == machine.id), None)
        if found is None and machine.kept:
            found = self._instances.one(machine.name)
        if found:
            self._ending.destroy(machine, found)
        self._tidy(machine, found)

    def _tidy(self, machine: Machine, found: Instance | None) -> None:
        """Remove what the machine had on the account. The machine is gone, so an error with
        the rest must not hide that; a start without a free slot names what is left."""
        with suppress(CloudError):
            self._scripts.remove(machine.name)
            if found and found.kind != "container":
                self._access.forget(machine.name)

    def _pause(self, machine: Machine) -> None:
        self._refuse_others(machine)
        if self._api.hurried:
            self._ending.pause_at_once(machine)
        else:
            self._ending.pause(machine)

    def _refuse_others(self, machine: Machine) -> None:
        """Raise NotPermitted if only others have a startup script for the machine."""
        ours = self._places(machine)
        if not ours:
            return
        try:
            used_from = places(self._scripts.all(), machine.name)
        except CloudUnreachable:
            return  # the lock is held, and what is billed must end
        if not used_from & ours:
            refuse_foreign(machine.name, used_from)

    def _places(self, machine: Machine) -> set[str]:
        """Return where runners of this run may be registered, as script names spell it."""
        if machine.tags.scope:
            return {place_of(machine.tags.scope)}
        repository = self._env.get("GITHUB_REPOSITORY", "")
        owner = repository.partition("/")[0]
        return {place_of(f"repos/{repository}"), place_of(f"orgs/{owner}")} if owner else set()

    def _boot_log(self, machine: Machine) -> str:
        found = self._look(machine) if self._access.is_known(machine.name) else None
        return self._access.boot_log(found) if found and found.state is State.RUNNING else ""

    def _price(self, machine: Machine) -> Price | None:
        """An existing machine has its own GPUs; an imagined one as many as it would be made or
        resumed with."""
        asked = Candidate(type=machine.type, region=machine.region, market=machine.market)
        found = self._look(machine)
        own, wished = found.num_gpus if found else 0, self._options.num_gpus
        gpus = (own or wished or 1) if machine.id else (wished or own or 1)
        made = "vm" if self._options.template == "vm" else "container"
        kind = found.kind if found else made
        wanted = Wanted(candidate=asked, kind=kind, gpus=gpus)
        return self._catalogue.price(wanted, self._clock.now())

    def _wanted(self, order: Order, found: Instance | None) -> Wanted:
        """Return what must be free for the order: for the existing machine, or a new one."""
        asked, gpus = order.candidate, self._options.num_gpus
        if found is None:
            kind = "vm" if (order.image or self._options.template) == "vm" else "container"
            return Wanted(candidate=asked, kind=kind, gpus=gpus or 1)
        own = replace(asked, type=asked.type or found.gpu_type, region=found.region)
        return Wanted(candidate=own, kind=found.kind, gpus=gpus or found.num_gpus)


def _refuse_unknown(region: str) -> None:
    if region not in HOSTS:
        raise unknown_region(region)


def _found(row: Instance, wanted: Mapping[str, str]) -> Machine | None:
    """Return a row as a machine if its name is one of ours and fits."""
    mark = read_name(row.name)
    tags = {field: value for field, value in wanted.items() if field != "name"}
    if mark is None or row.state is State.ENDING or row.name != wanted.get("name", row.name):
        return None
    if not mark.fits(tags):
        return None
    return machine_of(row, only_name(row.name, mark.run_id, mark.attempt))
