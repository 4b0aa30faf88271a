"""The Kafka runtime of Antiphon: processors in exactly-once turns, the client facade, replay, dead letters, the embedded broker.

    from streams import App, Batch        # write a processor          docs/processors.md
    from streams import connect           # publish, subscribe, ask    docs/client.md

Names are imported when they are first used: Faust alone takes half a second, which a command that only talks to the broker
need not pay.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streams.client import Mesh, connect
    from streams.turns import App, Batch, Options, Table, View

__all__ = ["App", "Batch", "Mesh", "Options", "Table", "View", "connect"]

_HOMES = dict.fromkeys(("App", "Batch", "Options", "Table", "View"), "streams.turns") | dict.fromkeys(
    ("Mesh", "connect"), "streams.client"
)


def __getattr__(name: str) -> Any:  # noqa: ANN401 whatever the name stands for
    """Import what is asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module 'streams' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
