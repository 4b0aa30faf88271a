"""The batch runtime: Faust processors in turns, each turn one kafka transaction (docs/runtime.md)."""

from streams.turns.app import App
from streams.turns.batch import Batch, View, current_batch
from streams.turns.options import Options
from streams.turns.tables import JsonCodec, Table

__all__ = ["App", "Batch", "JsonCodec", "Options", "Table", "View", "current_batch"]
