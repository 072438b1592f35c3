"""Numbers out of scores: intervals, differences between editors, the benchmarks' own ways to average, agreement."""
