"""Judges: an item and an output in, a score out. An MLLM behind an address, or the truth of the drawn world."""
