"""How to reach GitHub: the inputs that every action shares."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from gpu_ci.inputs.reader import Reader


@dataclass(frozen=True, kw_only=True)
class GitHubInputs:
    """How to reach GitHub. `run_token` is the job's own token: it reads runs, it administers none."""

    token: str = field(repr=False)
    app_id: str
    app_private_key: str = field(repr=False)
    api_url: str
    organization: str
    run_token: str = field(repr=False)

    @classmethod
    def read(cls, reader: Reader, *, spare: str = "") -> Self:
        """Read them; `spare` is used where there is neither a token nor an App."""
        app_id, key = reader.text("app-id"), reader.text("app-private-key")
        inputs = cls(
            token=reader.text("github-token") or ("" if app_id or key else spare),
            app_id=app_id,
            app_private_key=key,
            api_url=reader.url("github-api-url", "https://api.github.com"),
            organization=reader.matching("organization", r"[A-Za-z0-9][A-Za-z0-9-]*"),
            run_token=reader.env.get("GPU_CI_RUN_TOKEN", ""),
        )
        if inputs.app_id and not inputs.app_private_key and not inputs.token:
            reader.missing.append("app-private-key")
        elif bool(inputs.app_id) != bool(inputs.app_private_key):
            reader.problem(
                "app-id and app-private-key belong together: give both, or a github-token."
            )
        elif not inputs.token and not inputs.app_id:
            reader.missing.append("github-token")
        return inputs
