"""Every way to fail: one paragraph with the cause and the cure, and an exit code for each class.

GpuCiError
├── BadInputs                 2  what the user wrote; all problems at once
├── GitHubError
│   ├── Forbidden            10  401, 403: the token may not
│   ├── Absent               11  404: it is not there, or the token may not know
│   ├── Limited              12  a rate limit that ends after our deadline
│   ├── Unreachable          13  no answer, or none that means anything
│   ├── Conflict             14  409: the name is taken
│   ├── Refused              15  422: GitHub understood and will not
│   └── Busy                 16  422 on a runner: it is running a job
├── CloudError
│   ├── NoCapacity           20  nothing free here now: the next candidate may have it
│   ├── WrongHere            20  this type is not sold here: the next candidate may have it
│   ├── QuotaExceeded        21  the account may not have more
│   ├── NotPermitted         22  credentials missing, expired, or without the right
│   ├── WrongRequest         23  image, subnet, type … that the cloud does not know
│   ├── CloudUnreachable     24  no answer, or none that means anything
│   ├── NoSuchMachine        25  no machine has the name that was given
│   ├── NameShared           26  several machines have it: which one is meant is not known
│   └── InUse                27  another run holds the machine
├── StartFailed
│   ├── BootFailed           30  the boot script failed or fell silent
│   ├── MachineEnded         30  the machine ended before its runner was online
│   ├── GpuUnusable          31  the machine is up, its GPU is not
│   ├── NeverOnline          32  the runner did not come in time
│   └── RegistrationLost     33  GitHub dropped the runner before it was online
├── NeverPickedUp            34  a job waited for a runner that did not come; its run was cancelled
├── JobFailed                35  a watched job failed; so does its watch, to be re-run with it
├── SetupFailed
│   ├── NotFetched           60  uv could not be downloaded
│   ├── NotVerified          61  what was downloaded has no checksum, or another one
│   ├── NoFolder             62  no folder can be written by this user
│   ├── NoPython             63  the Python that was asked for cannot be had
│   └── EnvironmentFailed    64  uv could not make or fill the environment
├── AlreadyThere             66  a file that would be written is there already
├── NotAllowed               68  no one with permission asked for this GPU job
├── EventUnreadable          69  what began this run cannot be known
├── StillThere               40  something could not be given back, or ended
├── OverBudget               46  the start may cost more than its budget
├── BudgetUnknown            47  what the start may cost, or what was spent, cannot be looked up
├── EnvironmentBroken        50  a program or package is missing here
└── Unexpected               79  a bug: nothing foresaw it
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence


class GpuCiError(Exception):
    """What went wrong and what to do about it, in one readable paragraph.

    `str(error)` is fit for a user: no secret, no traceback. `exit_code` tells scripts the class.
    `on_the_page` says that the story itself has put it into the job's summary.
    """

    exit_code: ClassVar[int] = 1
    on_the_page: ClassVar[bool] = False

    def __init__(self, what: str, cure: str = "") -> None:
        super().__init__(f"{what} {cure}".strip())
        self.what = what
        self.cure = cure


class BadInputs(GpuCiError):
    """One or more inputs cannot be used; `problems` has a paragraph for each."""

    exit_code = 2

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n\n".join(problems))
        self.problems = tuple(problems)


class GitHubError(GpuCiError):
    """GitHub did not do what was asked."""


class Forbidden(GitHubError):
    """The credentials are bad or lack a right (401, 403)."""

    exit_code = 10


class Absent(GitHubError):
    """A full answer says that it is not there (404)."""

    exit_code = 11


class Limited(GitHubError):
    """A rate limit holds until `until` (seconds since the epoch), later than we may wait."""

    exit_code = 12

    def __init__(self, what: str, cure: str = "", *, until: float) -> None:
        super().__init__(what, cure)
        self.until = until


class Unreachable(GitHubError):
    """No answer, or one that means nothing (5xx, broken JSON, a reset); the state is unknown."""

    exit_code = 13


class Conflict(GitHubError):
    """The name is taken, or the thing is in another state (409)."""

    exit_code = 14


class Refused(GitHubError):
    """GitHub understood and will not (422)."""

    exit_code = 15


class Busy(Refused):
    """The runner is running a job and cannot be deleted (422 on DELETE)."""

    exit_code = 16


class CloudError(GpuCiError):
    """The provider did not do what was asked."""

    exit_code = 24


class NoCapacity(CloudError):
    """Nothing is free for this candidate now; the next one may have it."""

    exit_code = 20


class WrongHere(CloudError):
    """This type or market is not offered in this place; the next candidate may have it."""

    exit_code = 20


class QuotaExceeded(CloudError):
    """The account's own limit is reached; another place or time of the same account won't help."""

    exit_code = 21


class NotPermitted(CloudError):
    """Credentials are missing, expired, or lack a right."""

    exit_code = 22


class WrongRequest(CloudError):
    """The cloud does not know the image, subnet, type … that was asked for."""

    exit_code = 23


class CloudUnreachable(CloudError):
    """No answer, or one that means nothing; what was asked may or may not have happened."""

    exit_code = 24


class NoSuchMachine(CloudError):
    """No machine has the name that was given, and no type was named to make it of."""

    exit_code = 25


class NameShared(CloudError):
    """Several machines have the name that was given; which one is meant is not known."""

    exit_code = 26


class InUse(CloudError):
    """Another run held the machine until the deadline."""

    exit_code = 27


class StartFailed(GpuCiError):
    """A machine was launched and did not become a usable runner.

    `tail` is the end of its boot log: text from elsewhere, to be shown as such. `another` says
    whether another machine may do better.
    """

    exit_code = 30
    another: ClassVar[bool] = False

    def __init__(self, what: str, cure: str = "", *, tail: Sequence[str] = ()) -> None:
        super().__init__(what, cure)
        self.tail = tuple(tail)


class BootFailed(StartFailed):
    """The boot script failed or fell silent before the runner was online."""

    exit_code = 30


class MachineEnded(StartFailed):
    """The machine ended before its runner was online: reclaimed, or by its own timers."""

    exit_code = 30
    another = True


class GpuUnusable(StartFailed):
    """The machine is up, its GPU is not what the gate asks for."""

    exit_code = 31
    another = True


class NeverOnline(StartFailed):
    """The runner did not come online before the deadline."""

    exit_code = 32


class RegistrationLost(StartFailed):
    """GitHub removed the registration before its runner was online."""

    exit_code = 33
    another = True


class NeverPickedUp(GpuCiError):
    """A job waited longer than it may for a runner; its run was cancelled."""

    exit_code = 34


class JobFailed(GpuCiError):
    """The watched job has failed, and its watch with it, so that both are re-run together."""

    exit_code = 35


class SetupFailed(GpuCiError):
    """uv, or what it was asked for, could not be set up on this machine."""

    exit_code = 60


class NotFetched(SetupFailed):
    """uv could not be downloaded from anywhere, and none that is here will do."""

    exit_code = 60


class NotVerified(SetupFailed):
    """What was downloaded, or kept, has the wrong checksum, or none is known."""

    exit_code = 61


class NoFolder(SetupFailed):
    """Something needs a folder, and there is none that this user can write."""

    exit_code = 62


class NoPython(SetupFailed):
    """The Python that was asked for is neither here nor to be downloaded."""

    exit_code = 63


class EnvironmentFailed(SetupFailed):
    """uv could not make the virtual environment, or install into it."""

    exit_code = 64


class AlreadyThere(GpuCiError):
    """`init` would overwrite a file; nothing was written."""

    exit_code = 66


class NotAllowed(GpuCiError):
    """This run may rent no machine: no one with permission asked for it, or it is not trusted."""

    exit_code = 68
    on_the_page = True


class EventUnreadable(GpuCiError):
    """What GitHub says about the event is missing or malformed, so nobody knows who asks."""

    exit_code = 69


class StillThere(GpuCiError):
    """Something that should be given back or ended could not be; the text says where to look."""

    exit_code = 40


class OverBudget(GpuCiError):
    """A start may cost more than its budget allows; nothing was launched."""

    exit_code = 46


class BudgetUnknown(GpuCiError):
    """A price or the ledger cannot be looked up, so no budget can be held; nothing was launched."""

    exit_code = 47


class EnvironmentBroken(GpuCiError):
    """A program or package that this command needs is missing on this machine."""

    exit_code = 50


class Unexpected(GpuCiError):
    """A bug in gpu-ci. The log has the traceback and the versions that its report needs."""

    exit_code = 79
