"""Replay the last day of a topic at a hundred times its own speed, with progress."""

import time

from streams.replay import Progress, Replay, Selection

DAY_MS = 86_400_000


def shown(progress: Progress) -> None:
    """Print how far it is."""
    eta = "?" if progress.eta_s is None else f"{progress.eta_s:.0f} s"
    print(f"{progress.share:.0%}, {progress.records:,} records, {eta} left")


def main() -> None:
    """Print where each record lies as it comes."""
    since = Selection(start_ms=int(time.time() * 1000) - DAY_MS)
    for record in Replay("agents.events", selection=since, speed=100.0, gap_ms_max=2_000, on_progress=shown):
        print(record.position, record.key)


if __name__ == "__main__":
    main()
