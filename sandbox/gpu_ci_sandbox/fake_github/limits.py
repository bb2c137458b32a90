"""GitHub's rate limits: a window of requests for each token, and the secondary limit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

WINDOW_SECONDS = 3600
ANONYMOUS_LIMIT = 60
Status = Literal[403, 429]


@dataclass(frozen=True, kw_only=True)
class Window:
    """What a token has left until `reset_at` (seconds since 1970)."""

    limit: int
    used: int
    reset_at: float

    @property
    def remaining(self) -> int:
        return max(0, self.limit - self.used)

    @property
    def headers(self) -> dict[str, str]:
        """The x-ratelimit-* headers of an answer."""
        return {
            "x-ratelimit-limit": str(self.limit),
            "x-ratelimit-remaining": str(self.remaining),
            "x-ratelimit-used": str(self.used),
            "x-ratelimit-reset": str(int(self.reset_at)),
            "x-ratelimit-resource": "core",
        }


@dataclass(frozen=True, kw_only=True)
class Secondary:
    """The secondary limit: the next `times` requests are refused, in this form."""

    times: int = 1
    status: Status = 403
    retry_after: int | None = 60


class Limits:
    """Windows by token. Not safe between threads: `GitHub` calls it in its own turn."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._windows: dict[str, Window] = {}
        self.status: Status = 403
        self.secondary: Secondary | None = None
        self.counted_calls = 0

    def window(self, token: str, limit: int) -> Window:
        """The token's current window; a new one begins when the old has ended."""
        known = self._windows.get(token)
        if known is None or known.reset_at <= self._clock():
            known = Window(limit=limit, used=0, reset_at=self._clock() + WINDOW_SECONDS)
            self._windows[token] = known
        return known

    def set_remaining(self, token: str, limit: int, remaining: int, reset_in: float) -> None:
        """Leave the token so many requests until `reset_in` seconds from now."""
        self._windows[token] = Window(
            limit=limit, used=limit - remaining, reset_at=self._clock() + reset_in
        )

    def count(self, token: str, limit: int) -> None:
        """A request that GitHub counts."""
        window = self.window(token, limit)
        self._windows[token] = replace(window, used=window.used + 1)
        self.counted_calls += 1

    def give_back(self, token: str) -> None:
        """The request turned out to be one that GitHub does not count."""
        window = self._windows[token]
        self._windows[token] = replace(window, used=window.used - 1)
        self.counted_calls -= 1

    def take_secondary(self) -> Secondary | None:
        """The secondary limit's refusal for this request, None if it does not apply."""
        refusal = self.secondary
        if refusal is not None:
            left = replace(refusal, times=refusal.times - 1)
            self.secondary = left if left.times > 0 else None
        return refusal
