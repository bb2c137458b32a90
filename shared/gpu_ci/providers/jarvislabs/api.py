"""The client for the JarvisLabs API: each region's host, and refusals that come as a success."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gpu_ci.errors import WrongRequest
from gpu_ci.providers.http import Line
from gpu_ci.providers.jarvislabs.api_errors import SERVICE, refusal, succeeded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpu_ci.errors import CloudError
    from gpu_ci.providers.http import Call
    from gpu_ci.runtime.clock import Clock

# One host a region; calls about a machine go to its own region's. (The vendor's client, 0.2.19.)
HOSTS: Final = {
    "india-noida-01": SERVICE.root,
    "india-chennai-01": "https://backendc.jarvislabs.net",
    "europe-01": "https://backendeu.jarvislabs.net",
}
HOME_REGION: Final = "india-noida-01"


class Api(Line):
    """The API under the key of the environment; raises the errors of `api_errors`."""

    def __init__(self, env: Mapping[str, str], clock: Clock) -> None:
        super().__init__(service=SERVICE, env=env, clock=clock)

    def is_success(self, status: int, data: Any) -> bool:
        return super().is_success(status, data) and succeeded(data) is not False

    def refusal(self, call: Call, status: int, data: Any, after: float) -> CloudError:
        return refusal(call.doing, status, data, after)

    def root(self, region: str) -> str:
        if (region or HOME_REGION) not in HOSTS:
            raise unknown_region(region)
        return self.given_root() or HOSTS[region or HOME_REGION]


def unknown_region(region: str) -> WrongRequest:
    """Return the error for a region without a known host."""
    return WrongRequest(
        f"No host is known for the JarvisLabs region {region!r}.",
        f"Its regions are {', '.join(HOSTS)}; codes such as IN2 have changed their meaning and are "
        "not taken.",
    )


def upload(script: str) -> Mapping[str, tuple[str, bytes, str]]:
    """Return the files of a call that sends a startup script."""
    return {"script": ("startup.sh", script.encode(), "application/x-sh")}
