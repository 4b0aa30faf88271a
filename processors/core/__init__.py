"""The machines: pure step functions over plain values; `processors.<name>` is the Faust agent that runs the one of its name."""
