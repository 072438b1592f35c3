"""Files that artists have -> one internal naming, one loader, one report.

Three wings, imports go downwards only: containers/ (bytes -> tensors), layouts/ (names -> ours), telling/ (what a file
is, in words). On top of them convert.py, which writes a file in another form; ../weights.py builds models with them.
"""
