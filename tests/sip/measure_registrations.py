"""What 10,000 idle registrations cost in memory: ``python -m tests.sip.measure_registrations`` prints it."""

from __future__ import annotations

import gc
import resource
import time

from agentstream.sip.hop import Hop
from agentstream.sip.registrar import RegistrarSettings
from agentstream.testing.sip_peer import SipPeer
from tests.sip.test_sip_registrar import House

PHONES = 10_000


def resident_mb() -> float:
    """MB of this process in memory now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6


def main() -> None:
    house = House(RegistrarSettings(ping_s=25.0))
    assert house.stack.gate is not None
    account = house.stack.gate.account_of("alice")
    house.stack.gate.account_of = lambda _user: account
    gc.collect()
    before, began = resident_mb(), time.process_time()
    for number in range(PHONES):
        host = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        phone = SipPeer(host=host, user=f"phone{number}")
        assert house.register(phone, source=Hop("udp", host, 5090, "u")).status == 200
        house.now += 0.01
        house.stack.handle_timer(house.now)
        house.stack.events.clear()
        house.stack.out.clear()
    cpu_s = time.process_time() - began
    for _ in range(60):
        # Behind the transactions of their REGISTERs they are idle.
        house.now += 1.0
        house.stack.handle_timer(house.now)
        house.stack.out.clear()
    gc.collect()
    assert len(house.registrar) == PHONES
    took = resident_mb() - before
    began = time.process_time()
    for _ in range(25):
        house.now += 1.0
        house.stack.handle_timer(house.now)
        house.stack.out.clear()
    pings_ms = (time.process_time() - began) * 1000 / 25
    print(f"{PHONES} registrations: {took:.1f} MB, {cpu_s / PHONES * 1e6:.0f} us of CPU each (with the test's phone),")
    print(f"pings of all of them every 25 s: {pings_ms:.2f} ms of CPU a second")


if __name__ == "__main__":
    main()
