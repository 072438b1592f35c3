"""Judging the judge: edits whose order in quality is known, any judge's scores of them, and how far they agree."""
