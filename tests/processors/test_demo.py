"""What the demo command does with signals; the whole job is in tests/e2e/test_demo.py."""

from __future__ import annotations

import signal

import pytest

from processors.demo import _interruptible


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_stays_one_whatever_a_library_makes_of_it(number: signal.Signals) -> None:
    """Each signal ends the block with KeyboardInterrupt, even where the interrupted code turns it into an error of its own."""
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), _interruptible():
        signal.raise_signal(number)
    with pytest.raises(KeyboardInterrupt), _interruptible():
        spoil(number)
    assert signal.getsignal(number) == before


def spoil(number: signal.Signals) -> None:
    try:
        signal.raise_signal(number)
    except KeyboardInterrupt:
        raise TypeError("expected header key to be unicode string") from None


def test_an_error_stays_an_error() -> None:
    """Without a signal nothing is changed."""
    with pytest.raises(TypeError, match="real"), _interruptible():
        raise TypeError("real")
