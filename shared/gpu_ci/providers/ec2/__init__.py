"""Amazon EC2: machines that are launched by RunInstances and found again by their tags."""

from __future__ import annotations

from typing import Final

from gpu_ci.providers.about import About, Secret

ABOUT: Final = About(
    name="ec2",
    title="EC2",
    class_path="gpu_ci.providers.ec2.ec2_provider:Ec2",
    ends_itself=True,
    secrets={
        "AWS_ACCESS_KEY_ID": Secret(
            taken_as="aws-access-key-id",
            words="of a user who may run and end instances; or no key at all, and aws-role in the "
            "profile",
        ),
        "AWS_SECRET_ACCESS_KEY": Secret(
            taken_as="aws-secret-access-key",
            words="the other half of it",
        ),
        # Nobody stores keys that end within hours: a login sets it.
        "AWS_SESSION_TOKEN": Secret(words="the third part of temporary keys"),
    },
    extra="aws",
    region_variables=("AWS_REGION", "AWS_DEFAULT_REGION"),
    default_region="us-east-1",
)
