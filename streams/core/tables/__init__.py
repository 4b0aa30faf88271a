"""What a client's copies of tables hold and what a transaction has done so far, as values without I/O."""
