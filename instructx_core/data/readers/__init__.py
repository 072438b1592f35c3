"""Readers: a set as it lies on disk -> records, one by one, and rejects for what is no record.

jsonl.py reads and writes our own records; pairs.py reads a plain folder; published.py public sets, by columns.py, which
says what their columns mean, and rows.py, which reads tables and tars. A reader opens no picture and no clip.
"""
