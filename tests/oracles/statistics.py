"""RFC 3550 appendix A.1 line by line, one packet at a time, without probation."""

from __future__ import annotations

MAX_DROPOUT = 3000
MAX_MISORDER = 100
MOD = 65536


class Source:
    """The RFC's ``source``; what it had counted before a restart is kept in two more numbers."""

    def __init__(self) -> None:
        self.max_seq: int | None = None
        self.expected_before = self.received_before = self.discarded = 0
        self.cycles = self.base_seq = self.bad_seq = self.received = 0

    def init_seq(self, seq: int) -> None:
        self.base_seq = seq
        self.max_seq = seq
        self.bad_seq = MOD + 1
        self.cycles = 0
        self.received = 0

    def update_seq(self, seq: int) -> bool:
        if self.max_seq is None:
            self.init_seq(seq)
            self.received = 1
            return True
        udelta = (seq - self.max_seq) % MOD
        if udelta < MAX_DROPOUT:
            if seq < self.max_seq:
                self.cycles += MOD
            self.max_seq = seq
        elif udelta <= MOD - MAX_MISORDER:
            if seq == self.bad_seq:
                self.expected_before += self.expected
                self.received_before += self.received
                before = (seq - 1) % MOD  # the packet that was not believed at first
                self.init_seq(before)
                self.cycles = MOD if seq == 0 else 0
                self.max_seq = seq
                self.received = 1
                self.discarded -= 1
            else:
                self.bad_seq = (seq + 1) % MOD
                self.discarded += 1
                return False
        self.received += 1
        return True

    @property
    def expected(self) -> int:
        return 0 if self.max_seq is None else self.cycles + self.max_seq - self.base_seq + 1

    @property
    def totals(self) -> tuple[int, int, int]:
        """Expected, received, discarded, of all runs."""
        return self.expected_before + self.expected, self.received_before + self.received, self.discarded
