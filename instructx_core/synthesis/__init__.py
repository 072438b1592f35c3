"""Training pairs from films (paper A.2): films.py cuts, stages/ decide and make, export.py writes records."""
