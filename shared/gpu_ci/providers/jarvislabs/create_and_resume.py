"""Creates and resumes machines exactly once, whatever happens to the answer."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from gpu_ci.errors import (
    CloudError,
    CloudUnreachable,
    InUse,
    NoSuchMachine,
    QuotaExceeded,
    WrongHere,
    WrongRequest,
)
from gpu_ci.model.machine import State
from gpu_ci.providers.http import Call
from gpu_ci.providers.jarvislabs.api_errors import NETWORK_CURE
from gpu_ci.providers.jarvislabs.catalogue import Wanted
from gpu_ci.providers.jarvislabs.machine_rows import Instance, new_id
from gpu_ci.providers.jarvislabs.request_bodies import (
    create_body,
    refuse_name,
    refuse_spot,
    resume_body,
)
from gpu_ci.providers.jarvislabs.startup_text import starting
from gpu_ci.providers.jarvislabs.storage import filesystem_id
from gpu_ci.runtime.clock import Deadline, every

if TYPE_CHECKING:
    from gpu_ci.providers import Candidate, Order
    from gpu_ci.providers.jarvislabs.api import Api
    from gpu_ci.providers.jarvislabs.catalogue import Catalogue
    from gpu_ci.providers.jarvislabs.machine_rows import Instances
    from gpu_ci.providers.jarvislabs.options import JarvisLabsOptions
    from gpu_ci.providers.jarvislabs.ssh_access import Access
    from gpu_ci.providers.jarvislabs.startup_scripts import Scripts
    from gpu_ci.runtime.clock import Clock

# How long to look by name for the result of a call whose answer was lost.
CREATE_LANDS_WITHIN: Final = 10.0
RESUME_LANDS_WITHIN: Final = 15.0
LOOK_SECONDS: Final = 2.5
PLACE_MARK: Final = (
    "#!/bin/sh\n# Says from where gpu-ci uses the machine in its name. Does nothing.\n"
)
NOT_UP: Final = {State.PAUSED, State.FAILED, State.ENDING}


@dataclass(frozen=True, kw_only=True)
class Starting:
    """Everything that a create or resume call needs."""

    api: Api
    clock: Clock
    instances: Instances
    catalogue: Catalogue
    scripts: Scripts
    access: Access
    options: JarvisLabsOptions

    def create(self, order: Order) -> Instance:
        """Create the machine of an order whose candidate has a region; return its row.

        Raises CloudError; after CloudUnreachable there may be a machine of that name.
        """
        wished = _new(order, order.image or self.options.template)
        self._check(order, wished.kind)
        self._refuse_full(
            Wanted(candidate=order.candidate, kind=wished.kind, gpus=self.options.num_gpus or 1)
        )
        fs_id = filesystem_id(self.api, self.options.filesystem, wished.region)
        script_id = self._bring_script(order, wished.kind)
        call = _call(wished, "create", create_body(order, self.options, script_id, fs_id))
        try:
            return self._created(call, wished)
        except CloudUnreachable:
            raise
        except CloudError:
            self._take_back(order, wished.kind)
            raise

    def resume(self, paused: Instance, order: Order) -> Instance:
        """Resume a machine that was paused a moment ago; return its row with its new id.

        Raises CloudError; after CloudUnreachable it may be up.
        """
        _refuse_unpaused(paused)
        self._refuse_where_it_is(paused, order.candidate)
        fs_id = filesystem_id(self.api, self.options.filesystem, paused.region)
        script_id = self._bring_script(order, paused.kind)
        call = _call(paused, "resume", resume_body(paused, order, self.options, script_id, fs_id))
        wished = replace(
            paused,
            status="Resuming",
            gpu_type=order.candidate.type or paused.gpu_type,
            is_spot=order.candidate.market == "spot",
        )
        return self._resumed(call, wished)

    def _refuse_where_it_is(self, paused: Instance, candidate: Candidate) -> None:
        """Raise what speaks against a resume where the machine is: it cannot move."""
        own = candidate.type in {"", paused.gpu_type}
        asked = replace(candidate, type=candidate.type or paused.gpu_type, region=paused.region)
        refuse_spot(asked, paused.kind)
        if paused.kind != "cpu-vm":
            gpus = self.options.num_gpus or paused.num_gpus
            wanted = Wanted(candidate=asked, kind=paused.kind, gpus=gpus)
            self._refuse_full(wanted, listed=not own)

    def _check(self, order: Order, kind: str) -> None:
        refuse_name(order.tags.name)
        refuse_spot(order.candidate, kind)
        if not order.candidate.type:
            raise WrongRequest(
                f"No type is known for the new machine {order.tags.name!r}.",
                "Name one under machine, such as L4.",
            )

    def _refuse_full(self, wanted: Wanted, *, listed: bool = True) -> None:
        """Avoid a call that would only fail; without a catalogue the call itself will show it.

        `listed` says that the type must be on sale: the type of an existing machine need not be.
        """
        try:
            self.catalogue.demand(wanted)
        except WrongHere:
            if listed or wanted.candidate.market == "spot":
                raise
        except CloudUnreachable:
            return

    def _bring_script(self, order: Order, kind: str) -> int | None:
        """Put the boot script where the machine will find it; return the id of a container's."""
        name = order.tags.name
        if kind == "container":
            return self.scripts.put(name, order.tags.scope, starting(name, order.boot_script))
        if order.kept:
            self._mark_place(order)
        self.access.prepare(name, order.boot_script)
        return None

    def _mark_place(self, order: Order) -> None:
        """Show other repositories, by a script's name, that this one uses a virtual machine, which
        runs no scripts. Raises NotPermitted if another one shows that; without a free slot
        nothing is shown."""
        with suppress(QuotaExceeded):
            self.scripts.put(order.tags.name, order.tags.scope, PLACE_MARK)

    def _take_back(self, order: Order, kind: str) -> None:
        """Remove what was stored for a machine that will not exist; it takes up a slot."""
        with suppress(CloudError):  # the error to show is why there is no machine
            if kind == "container":
                self.scripts.remove(order.tags.name)
            else:
                self.access.forget(order.tags.name)

    def _created(self, call: Call, wished: Instance) -> Instance:
        try:
            return replace(wished, id=new_id(call.doing, self.api.send(call)))
        except NoSuchMachine as error:
            raise WrongRequest(
                error.what, f"Is {wished.template!r} the name of a template? Correct `template`."
            ) from None
        except CloudUnreachable as error:
            if found := self._look_for(wished, CREATE_LANDS_WITHIN):
                return found
            raise _lost(error, "no machine of that name is there so far") from None

    def _resumed(self, call: Call, wished: Instance) -> Instance:
        try:
            return replace(wished, id=new_id(call.doing, self.api.send(call)))
        except CloudUnreachable as error:
            if found := self._look_for(wished, RESUME_LANDS_WITHIN):
                return found
            raise _lost(error, f"{wished.name} is not up so far") from None
        except CloudError as error:
            return self._up_all_the_same(wished, error)

    def _up_all_the_same(self, wished: Instance, error: CloudError) -> Instance:
        """Believe an error only if the machine is not up. Raises it, or CloudUnreachable."""
        try:
            found = self._landed(wished)
        except CloudUnreachable as unknown:
            raise _lost(error, "its row cannot be read") from unknown
        if found is None:
            raise error
        return found

    def _landed(self, wished: Instance) -> Instance | None:
        """Return the machine of this name that is up, by whatever id, None if none is."""
        up = [each for each in self.instances.named(wished.name) if each.state not in NOT_UP]
        return next(iter(up), None)

    def _look_for(self, wished: Instance, seconds: float) -> Instance | None:
        """Check for this long whether it is up after all, through further lost answers too."""
        deadline = Deadline.after(0 if self.api.hurried else seconds, self.clock)
        for _ in every(LOOK_SECONDS, deadline):
            with suppress(CloudUnreachable):
                if found := self._landed(wished):
                    return found
        return None


def _new(order: Order, template: str) -> Instance:
    """Return the row that the order's machine will have, without its id."""
    return Instance(
        id="",
        name=order.tags.name,
        status="Creating",
        template=template,
        gpu_type=order.candidate.type,
        region=order.candidate.region,
        is_spot=order.candidate.market == "spot",
    )


def _call(instance: Instance, action: str, body: dict[str, Any]) -> Call:
    """Return the call that creates or resumes it, at its region's host."""
    template = "vm/cpu" if instance.kind == "cpu-vm" else quote(instance.template, safe="")
    return Call(
        verb="POST",
        path=f"templates/{template}/{action}",
        doing=f"{action} {instance.name} ({instance.gpu_type} {instance.market} in {instance.region})",
        region=instance.region,
        body=body,
    )


def _refuse_unpaused(instance: Instance) -> None:
    if instance.state is not State.PAUSED:
        raise InUse(
            f"{instance.describe()} is {instance.status}, though it was paused a moment ago.",
            "Somebody else uses it, or started it at https://jarvislabs.ai: run the job again.",
        )


def _lost(error: CloudError, seen: str) -> CloudUnreachable:
    return CloudUnreachable(
        f"{error.what} Whether it was done is not known: {seen}.",
        "Look for it by its name at https://jarvislabs.ai; it is billed while it is up. "
        f"{NETWORK_CURE}",
    )
