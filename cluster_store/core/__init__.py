"""The pure core: no clock, no randomness, no I/O. Modules import downwards only, as listed in docs/ARCHITECTURE.md."""
