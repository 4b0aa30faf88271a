"""Settings that change while a worker runs: taken over whole, or refused whole."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.live import LISTENERS_MAX, LiveSettings
from streams.settings import Settings

DEADLINE_S = 20.0
"""For the file system to tell of a change; a tenth of a second as a rule."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "antiphon.toml"
    path.write_text("[worker]\nstall_after_s = 30\npartitions = 4\n")
    return path


@pytest.fixture(autouse=True)
def _level() -> Iterator[None]:
    """The root's level as it was."""
    root = logging.getLogger()
    before = root.level
    yield
    root.setLevel(before)


def test_a_change_is_applied_and_told(file: Path) -> None:
    """Once, with settings that hold all of the change."""
    live = LiveSettings(Settings(file))
    told: list[Settings] = []
    live.on_change(told.append)
    file.write_text('[worker]\nstall_after_s = 5\nturn_records_max = 100\n[log]\nlevel = "warning"\n')
    assert live.reload()
    assert (live.current.worker.stall_after_s, live.current.worker.turn_records_max) == (5, 100)
    assert told == [live.current]
    assert logging.getLogger().level == logging.WARNING
    assert not live.reload()


def test_a_file_with_a_mistake_is_refused_whole_and_the_log_says_why(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The good half of a bad file is not applied either."""
    live = LiveSettings(Settings(file))
    before = live.current
    file.write_text("[worker]\nstall_after_s = 5\nturn_records_max = 0\n")
    assert not live.reload()
    assert live.current is before
    assert "refused, the old settings stay: worker.turn_records_max" in caplog.text


def test_a_file_that_has_gone_changes_nothing(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Deleted by mistake is not "back to the defaults"."""
    live = LiveSettings(Settings(file))
    file.unlink()
    assert not live.reload()
    assert live.current.worker.stall_after_s == 30
    assert "is not there" in caplog.text


def test_a_setting_that_needs_a_restart_is_named_and_not_applied(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Partitions cannot change under a running worker."""
    live = LiveSettings(Settings(file))
    file.write_text("[worker]\nstall_after_s = 30\npartitions = 8\n")
    assert not live.reload()
    assert live.current.worker.partitions == 4
    assert "worker.partitions differs in the file; it changes at the next start" in caplog.text


def test_arguments_go_on_winning_over_the_file(file: Path) -> None:
    """What was given on the command line does not move."""
    live = LiveSettings(Settings(file, worker={"stall_after_s": 12}))
    file.write_text("[worker]\nstall_after_s = 5\n")
    assert not live.reload()
    assert live.current.worker.stall_after_s == 12


def test_a_listener_that_raises_keeps_nobody_on_old_settings(file: Path) -> None:
    """The others are told."""
    live = LiveSettings(Settings(file))
    told: list[Settings] = []

    def broken(_settings: Settings) -> None:
        raise RuntimeError("broken")

    live.on_change(broken)
    live.on_change(told.append)
    file.write_text("[worker]\nstall_after_s = 5\n")
    assert live.reload()
    assert told


def test_listeners_are_bounded(file: Path) -> None:
    """Registering once a turn is a mistake that shows."""
    live = LiveSettings(Settings(file))
    for _ in range(LISTENERS_MAX - 1):  # one is the log's level
        live.on_change(lambda _settings: None)
    with pytest.raises(ValueError, match="listeners"):
        live.on_change(lambda _settings: None)


@pytest.mark.parametrize("how", ["written", "replaced", "link swapped"])
async def test_the_watch_sees_every_way_a_file_changes(tmp_path: Path, how: str) -> None:
    """Written in place, renamed over as editors do, or behind a swapped link as Kubernetes does with a ConfigMap."""
    old, new = tmp_path / "..1", tmp_path / "..2"
    for directory, seconds in ((old, 30), (new, 5)):
        directory.mkdir()
        (directory / "antiphon.toml").write_text(f"[worker]\nstall_after_s = {seconds}\n")
    file = tmp_path / "antiphon.toml"
    if how == "link swapped":
        (tmp_path / "..data").symlink_to(old.name)
        file.symlink_to("..data/antiphon.toml")
    else:
        file.write_text((old / "antiphon.toml").read_text())
    live = LiveSettings(Settings(file))
    stop = asyncio.Event()
    watching = asyncio.create_task(live.watch(stop))

    def change() -> None:
        if how == "written":
            file.write_text((new / "antiphon.toml").read_text())
        elif how == "replaced":
            (tmp_path / "temporary").write_text((new / "antiphon.toml").read_text())
            (tmp_path / "temporary").replace(file)
        else:
            (tmp_path / "..data_tmp").symlink_to(new.name)
            os.replace(tmp_path / "..data_tmp", tmp_path / "..data")  # noqa: PTH105 - a link is replaced, not what it names

    try:
        while live.current.worker.stall_after_s == 30:
            # Repeated, because the watch begins in a thread of its own and tells nobody when it has.
            change()
            deadline = asyncio.get_running_loop().time() + 2
            while live.current.worker.stall_after_s == 30 and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110 - no event to wait for
                await asyncio.sleep(0.02)
        assert live.current.worker.stall_after_s == 5
    finally:
        stop.set()
        await asyncio.wait_for(watching, DEADLINE_S)


async def test_without_a_file_there_is_nothing_to_watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The watch ends at once instead of waiting for ever."""
    monkeypatch.chdir(tmp_path)
    await asyncio.wait_for(LiveSettings(Settings()).watch(), DEADLINE_S)
