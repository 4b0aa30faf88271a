"""The app for Faust's own command line: `faust -A processors.app worker`. `antiphon worker activity overlap` runs the same."""

from __future__ import annotations

from processors import activity, overlap
from streams import App
from streams.broker import resolve_bootstrap
from streams.settings import Settings

__all__ = ["app"]

_settings = Settings()
app = App.from_settings(_settings, bootstrap_servers=resolve_bootstrap(_settings))
activity.register(app)
overlap.register(app)
