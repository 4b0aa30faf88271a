"""When a call that failed is tried again: backoff, with jitter that depends on the call's id alone: a replay waits as long."""

from __future__ import annotations

from hashlib import blake2b

from streams.core.sagas.definition import Retry

__all__ = ["is_final", "wait_ms"]


def is_final(retry: Retry, *, attempt: int, code: str) -> bool:
    """Whether a failure with `code` of this attempt (from 1) is the end: no attempt is left, or the code is never retried."""
    return attempt >= retry.attempts or code in retry.never


def wait_ms(retry: Retry, call_id: str, *, attempt: int) -> int:
    """How long to wait behind failed `attempt` (from 1): at least the part that is not jitter, at most `backoff_ms_max`.

    The jitter is drawn from a hash of the id and the attempt: sagas that failed together do not come back together, and a log
    that is read again gives the same times.
    """
    exponent = min(attempt - 1, 64)  # beyond it every backoff has reached its longest; and no power overflows
    backoff = min(float(retry.backoff_ms_max), retry.backoff_ms * retry.factor**exponent)
    digest = blake2b(f"{call_id}#{attempt}".encode(), digest_size=4).digest()
    chance = int.from_bytes(digest, "big") / 2**32
    return round(backoff * (1 - retry.jitter * chance))
