"""Measuring a model: batched edits of benchmark samples, scores, tables, sheets."""
