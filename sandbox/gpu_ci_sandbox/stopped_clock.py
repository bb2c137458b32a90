"""A clock that stands still until somebody moves it on."""

from __future__ import annotations


class Clock:
    """Seconds since 1970, as `time.time` gives them; starts on 2026-11-20."""

    def __init__(self, now: float = 1_795_132_800.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass."""
        self.now += seconds
