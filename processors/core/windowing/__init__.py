"""The parts of `processors.core.windows`: what a definition may say, one key's windows, and which key is due when."""
