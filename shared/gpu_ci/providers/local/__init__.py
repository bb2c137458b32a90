"""This machine as a provider, to try things out, and for machines that you own."""

from __future__ import annotations

from typing import Final

from gpu_ci.providers.about import About

ABOUT: Final = About(
    name="local",
    title="this machine",
    class_path="gpu_ci.providers.local.local_provider:Local",
    ends_itself=True,
    one_type=True,
)
