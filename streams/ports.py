"""Ports of this machine: which are free, and which answer."""

from __future__ import annotations

import secrets
import socket

__all__ = ["FREE_PORTS", "free_port", "is_free", "listens"]

FREE_PORTS = range(20_000, 32_000)
"""Below the ports that systems give to outgoing connections: from those, a client that dials a stopped broker can be given the
broker's own port as its source, connect to itself, and keep the broker from coming back."""

ATTEMPTS = 200
"""Random tries; a machine with so many of these ports taken is out of order."""

CONNECT_S = 0.5
"""On this machine, where a connection is made or refused at once."""


def free_port(host: str, taken: set[int]) -> int:
    """A port that nobody listens on, added to ``taken``, which is avoided.

    Another program can take it before it is used, so whoever binds it must be ready to try again.
    """
    for _ in range(ATTEMPTS):
        port = FREE_PORTS[secrets.randbelow(len(FREE_PORTS))]
        if port not in taken and is_free(host, port):
            taken.add(port)
            return port
    raise OSError(f"no free port from {FREE_PORTS.start} to {FREE_PORTS.stop} on {host}")


def is_free(host: str, port: int) -> bool:
    """Whether a listener could be bound, as a server binds it (old connections in TIME_WAIT do not count)."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen()
        except OSError:
            return False
    return True


def listens(host: str, port: int) -> bool:
    """Whether somebody accepts connections."""
    try:
        with socket.create_connection((host, port), CONNECT_S):
            return True
    except OSError:
        return False
