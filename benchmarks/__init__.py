"""Benchmarks: each a command (`antiphon bench NAME`) that runs ours and its peers interleaved (docs/performance.md)."""
