"""What a command asks for: one recipe (run.py), all of the tiny model (chain.py), the last steps again (repeat.py).

caching.py encodes a run's data before it; export.py and card.py make a checkpoint folder of what was trained.
"""
