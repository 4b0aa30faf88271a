"""Barriers as plainly as they can be written: one list of arrivals and a dict of what is broken."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Arrival:
    id: str
    owner: str
    name: str
    parties: int
    generation: int
    on_timeout: str
    on_death: str
    lease_ms: int
    alive_ms: int
    until_ms: int | None
    state: str = "waiting"
    index: int = -1


class Oracle:
    """`log` has what happened, as (what, request id), since it was last emptied; generations are numbered from 1."""

    def __init__(self) -> None:
        self.all: list[Arrival] = []
        self.broken: dict[str, int] = {}
        self.trips: list[tuple[str, int, list[str]]] = []
        self.log: list[tuple[str, str]] = []
        self.generations = 0

    def waiting(self, name: str) -> list[Arrival]:
        return [a for a in self.all if a.name == name and a.state == "waiting"]

    def find(self, request_id: str) -> Arrival | None:
        return next((a for a in self.all if a.id == request_id), None)

    def note(self, arrival: Arrival, state: str) -> None:
        arrival.state = state
        self.log.append((state, arrival.id))

    def arrive(self, arrival: Arrival, wait_ms: int | None, now_ms: int) -> None:
        self.tick(now_ms)
        arrival.alive_ms = now_ms + arrival.lease_ms
        arrival.until_ms = None if wait_ms is None else now_ms + wait_ms
        others = self.waiting(arrival.name)
        self.all.append(arrival)
        arrival.state = "?"
        if arrival.name in self.broken:
            self.note(arrival, "broken")
        elif others and others[0].parties != arrival.parties:
            self.note(arrival, "wrong_parties")
        elif any(a.owner == arrival.owner for a in others):
            self.note(arrival, "arrived_twice")
        else:
            if not others:
                self.generations += 1
            arrival.generation = others[0].generation if others else self.generations
            arrival.state = "waiting"
            together = [*others, arrival]
            if len(together) == arrival.parties:
                self.trips.append((arrival.name, arrival.generation, [a.owner for a in together]))
                for index, one in enumerate(together):
                    one.index = index
                    self.note(one, "tripped")
            elif wait_ms != 0:
                self.log.append(("waiting", arrival.id))
            self.tick(now_ms)

    def again(self, arrival: Arrival, now_ms: int) -> None:
        self.tick(now_ms)
        if arrival.state == "waiting":
            arrival.alive_ms = max(arrival.alive_ms, now_ms + arrival.lease_ms)
        self.log.append((arrival.state, arrival.id))

    def cancel(self, request_id: str, owner: str, now_ms: int) -> None:
        self.tick(now_ms)
        arrival = self.find(request_id)
        if arrival is None or arrival.state != "waiting" or arrival.owner != owner:
            self.log.append(("not_waiting", request_id))
        else:
            self.leave(arrival, "cancelled", arrival.on_timeout)

    def leave(self, arrival: Arrival, state: str, leaving: str) -> None:
        self.note(arrival, state)
        if leaving == "break":
            self.breaks(arrival.name, arrival.generation)

    def breaks(self, name: str, generation: int) -> None:
        self.broken[name] = generation
        for one in self.waiting(name):
            self.note(one, "broken")

    def reset(self, request_id: str, name: str, generation: int | None, now_ms: int) -> None:
        self.tick(now_ms)
        waiting = self.waiting(name)
        now = self.broken.get(name) or (waiting[0].generation if waiting else None)
        if now is not None and generation in (None, now):
            if waiting:
                self.breaks(name, now)
            del self.broken[name]
        self.log.append(("reset", request_id))

    def tick(self, now_ms: int) -> None:
        def due(a: Arrival) -> tuple[int, str]:
            return (a.alive_ms if a.until_ms is None else min(a.alive_ms, a.until_ms)), a.id

        while ends := sorted(due(a) for a in self.all if a.state == "waiting" and due(a)[0] <= now_ms):
            arrival = self.find(ends[0][1])
            assert arrival is not None
            if arrival.until_ms is not None and arrival.until_ms <= arrival.alive_ms:
                self.leave(arrival, "timed_out", arrival.on_timeout)
            else:
                self.leave(arrival, "lapsed", arrival.on_death)
