"""A fleet in one process: real replicas on a virtual clock, with faults drawn from a seed and checkers that watch."""
