"""What `provider-options` may hold for JarvisLabs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class JarvisLabsOptions:
    """What `provider-options` may hold.

    template: what a new machine is made of, where `image` does not say it; `vm` is a virtual machine.
    num_gpus: GPUs in the machine; 0 means one in a new machine, and what it has in a resumed one.
    filesystem: name of a filesystem to mount at /home/jl_fs, of the machine's region.
    http_ports: ports that JarvisLabs makes public, separated by commas; a job needs none.
    user: the account that the runner gets; made when it is missing.
    """

    template: str = "pytorch"
    num_gpus: int = 0
    filesystem: str = ""
    http_ports: str = ""
    user: str = "gpu-ci"
