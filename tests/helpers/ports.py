"""Free ports on the loopback interface."""

import random
import socket
from pathlib import Path


def free_port() -> int:
    """A TCP port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def free_ports(count: int) -> int:
    """The first of consecutive TCP ports that are free now, below those that the system gives to outgoing connections.

    Of the two halves of the system's range, even and odd, one is for :func:`free_port` and one for clients: the port
    after a free one is a client's, and one that connects to it before it is served may even reach itself.
    """
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        first = random.randrange(lowest // 2, lowest - count)
        probes = [socket.socket() for _ in range(count)]
        try:
            for number, probe in enumerate(probes):
                probe.bind(("127.0.0.1", first + number))
        except OSError:
            continue
        finally:
            for probe in probes:
                probe.close()
        return first
