"""Machines on a log: a primitive as a pure fold over a partition of commands, and what runs it as a Faust agent."""
