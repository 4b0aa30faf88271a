"""The machines: pure step functions over plain values, one module a machine; `processors.<name>` is the Faust agent that runs it."""
