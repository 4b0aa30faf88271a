"""Settings that change while a worker runs: its TOML file is watched, checked, and taken over whole or not at all.

A new file is read like the first one. If anything in it is wrong, it is refused with its lines in the log and the settings
stay as they were. If it is right, the settings marked *live* (log.level, worker.stall_after_s, worker.turn_records_max) change at
once, in one assignment; a change of any other is named in the log as waiting for a restart, and not applied.

Arguments and environment still win over the file, so a setting given there does not move.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from watchfiles import awatch

from streams import logs
from streams.errors import SettingsError
from streams.settings import Settings, fields
from streams.settings_report import is_live
from streams.settings_words import shown

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

__all__ = ["LiveSettings"]

DEBOUNCE_MS: Final = 200  # editors write a file in several steps; Kubernetes swaps a link
LISTENERS_MAX: Final = 100  # a worker has a handful; more are added in a loop by mistake

_log = logging.getLogger(__name__)


class LiveSettings:
    """The settings that hold now, in `current`; whoever needs to know of a change registers with `on_change`."""

    def __init__(self, settings: Settings) -> None:
        """Begins with settings that are valid.

        Args:
            settings: As the process was started with; its arguments go on winning over the file.
        """
        self.current: Settings = settings
        self._listeners: list[Callable[[Settings], None]] = [lambda new: logs.set_level(new.log.level)]

    def on_change(self, listener: Callable[[Settings], None]) -> None:
        """Calls a function after each change.

        Args:
            listener: Gets the new settings; must not block.

        Raises:
            ValueError: There are `LISTENERS_MAX` already.
        """
        if len(self._listeners) >= LISTENERS_MAX:
            raise ValueError(f"more than {LISTENERS_MAX} listeners: register once, not once a turn")
        self._listeners.append(listener)

    def reload(self) -> bool:
        """Reads the file again and takes over what may change.

        Returns:
            Whether anything changed; False too when the file was refused.
        """
        before = self.current
        try:
            read = before.read_again()
        except SettingsError as fault:
            for line in str(fault).splitlines():
                _log.error("settings file %s refused, the old settings stay: %s", before.config_file, line)
            return False
        changes: dict[str, dict[str, object]] = {}
        for group, name, field in fields():
            old, new = getattr(getattr(before, group), name), getattr(getattr(read, group), name)
            if old == new:
                continue
            if is_live(field):
                changes.setdefault(group, {})[name] = new
                _log.info("settings: %s.%s changed from %s to %s", group, name, shown(field, old), shown(field, new))
            else:
                _log.warning("settings: %s.%s differs in the file; it changes at the next start", group, name)
        if not changes:
            return False
        self.current = before.with_changes(changes)
        for listener in self._listeners:
            try:
                listener(self.current)
            except Exception:  # noqa: BLE001 - one listener's fault must not keep the others on old settings
                _log.exception("settings: a listener failed; the others go on")
        return True

    async def watch(self, stop: asyncio.Event | None = None) -> None:
        """Follows the file until stopped or cancelled; returns at once when the settings came from no file.

        Args:
            stop: Ends the watching when set.
        """
        path = self.current.config_file
        if path is None:
            return
        # The directory, because editors and Kubernetes replace the file instead of writing to it.
        async for changed in awatch(path.resolve().parent, path.absolute().parent, stop_event=stop, debounce=DEBOUNCE_MS):
            if any(path.name in name or "..data" in name for _, name in changed):
                self.reload()
