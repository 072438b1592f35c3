"""Benchmarks: what their authors ship -> items; where their own scripts look for the outputs."""
