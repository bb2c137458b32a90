"""JarvisLabs: machines that are rented for one run, and named ones that are paused between runs."""

from __future__ import annotations

from typing import Final

from gpu_ci.providers.about import About, Secret

ABOUT: Final = About(
    name="jarvislabs",
    title="JarvisLabs",
    class_path="gpu_ci.providers.jarvislabs.jarvislabs_provider:JarvisLabs",
    # That would need the account's key on the machine.
    ends_itself=False,
    keeps=True,
    secrets={
        "JL_API_KEY": Secret(
            taken_as="jl-api-key",
            words="the key of your JarvisLabs account (Settings, API Keys)",
            required=True,
        ),
        "JL_SSH_KEY": Secret(words="a private key whose public half is in your JarvisLabs account"),
    },
    extra="jarvislabs",
)
