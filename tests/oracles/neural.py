"""The neural detector of one row: windows cut from a list of samples, and answers counted one by one."""

from __future__ import annotations

from agentstream.audio.activity import ActivitySettings


class PlainNeural:
    """One row. ``ask(sound, is_first)`` gets the 288 samples of each window that the row is asked about."""

    def __init__(self, settings: ActivitySettings) -> None:
        self.settings = settings
        self.heard: list[int] = [0] * 32
        self.windows = 0
        self.is_asked = False
        self.is_first = False
        self.forget()

    def forget(self) -> None:
        self.is_voiced = False
        self.since_ms = 0
        self.hits = 0
        self.misses = 0

    def hear(self, frame: list[int], is_asked: bool) -> tuple[list[int], bool] | None:
        """The window that is whole now and whether it is the first of its stretch, where one is to be asked about."""
        self.heard += frame
        if is_asked and not self.is_asked:
            self.is_first = True
            self.forget()
        self.is_asked = is_asked
        begin = self.windows * 256
        if len(self.heard) < begin + 288:
            return None
        self.windows += 1
        if not is_asked:
            return None
        is_first, self.is_first = self.is_first, False
        return self.heard[begin : begin + 288], is_first

    def judge(self, probability: float, window: int) -> None:
        """The answer about the window with this number, the first being 1."""
        self.misses = 0 if probability >= 0.35 else self.misses + 1
        if self.is_voiced:
            self.is_voiced = self.misses * 32 <= self.settings.hangover_ms - 32
            return
        self.hits = self.hits + 1 if probability >= 0.5 else max(0, self.hits - 1)
        if self.hits >= self.settings.start_ms // 32:
            self.is_voiced = True
            self.since_ms = (window - self.settings.start_ms // 32) * 32
            self.hits = 0
