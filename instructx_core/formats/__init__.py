"""Files that artists have -> one internal naming, one loader, one report.

Wings, imports go downwards only: containers/ (bytes -> tensors), layouts/ (names -> ours), telling/ (what a file is, in
words), forms/. On top of them convert.py, which writes a file in another form, and loading.py, which builds modules.
"""
