"""Tables shared by agent services, and transactions over them: `mesh.table`, `mesh.transaction`, `mesh.transact`."""

from streams.tables.commits import Committed
from streams.tables.errors import (
    Heuristic,
    RowConflict,
    TableError,
    TransactionConflict,
    TransactionRefused,
    TransactionUnknown,
    TransactionWaits,
    VersionGone,
    VoteAgainst,
)
from streams.tables.facade import Tables
from streams.tables.managers import Part, ResourceManager
from streams.tables.session import Outcome
from streams.tables.tables import Row, Table
from streams.tables.transactions import Transaction

__all__ = [
    "Committed",
    "Heuristic",
    "Outcome",
    "Part",
    "ResourceManager",
    "Row",
    "RowConflict",
    "Table",
    "TableError",
    "Tables",
    "Transaction",
    "TransactionConflict",
    "TransactionRefused",
    "TransactionUnknown",
    "TransactionWaits",
    "VersionGone",
    "VoteAgainst",
]
