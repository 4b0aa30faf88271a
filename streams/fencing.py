"""Guards for processors: refuse records that were written under a lock which their writer has lost.

    async for batch in stream:
        guard = TableGuard(batch.view(table))
        for record in batch.records:
            if problem := guard.problem(record):
                ...                                   # refused, with the reason
                continue
            ...                                       # the write

The largest token of each resource is a row of the processor's own table, written in the kafka transaction of what it guards.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableMapping
from typing import TYPE_CHECKING, Final

from streams.core.guards import Guard, fences_of

if TYPE_CHECKING:
    from streams.turns.batch import Record, View

__all__ = ["TableGuard"]

ROW: Final = "fence"


class _Seen(MutableMapping[str, int]):
    """The largest tokens in a view, beside whatever else it has."""

    def __init__(self, view: View) -> None:
        self._view = view

    def __getitem__(self, resource: str) -> int:
        token: int | None = self._view.get((ROW, resource))
        if token is None:
            raise KeyError(resource)
        return token

    def __setitem__(self, resource: str, token: int) -> None:
        self._view[ROW, resource] = token

    def __delitem__(self, resource: str) -> None:
        del self._view[ROW, resource]

    def __iter__(self) -> Iterator[str]:
        return (key[1] for key in self._view if isinstance(key, tuple) and key[0] == ROW)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class TableGuard:
    """The guard of one partition of a table.

    Args:
        view: The batch's view of it. Rows are `["fence", resource]`.
        required: Resources whose token every record must carry; others are checked where they are there.
    """

    def __init__(self, view: View, *, required: Iterable[str] = ()) -> None:
        self._guard, self._required = Guard(_Seen(view)), tuple(required)

    def problem(self, record: Record) -> str:
        """Return why a record is refused, empty where it is not; remember its tokens in that case only."""
        return self._guard.problem(fences_of(record.headers), required=self._required)
