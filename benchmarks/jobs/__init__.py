"""The same work on different runtimes, each a process of its own that prints one JSON line."""
