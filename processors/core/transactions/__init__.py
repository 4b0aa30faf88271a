"""Transactions over the rows of one partition: the arbiter that checks, applies and remembers them, as a pure machine."""
