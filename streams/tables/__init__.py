"""Tables shared by agent services, and transactions over them: `mesh.table`, `mesh.transaction`, `mesh.transact`."""

from streams.tables.commits import Committed
from streams.tables.errors import (
    RowConflict,
    TableError,
    TransactionConflict,
    TransactionRefused,
    TransactionUnknown,
    TransactionWaits,
    VersionGone,
)
from streams.tables.facade import Tables
from streams.tables.session import Outcome
from streams.tables.tables import Row, Table
from streams.tables.transactions import Transaction

__all__ = [
    "Committed",
    "Outcome",
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
]
