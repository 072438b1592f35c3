"""The paper's design study and ablations (3.2, 4.4, A.4, A.8) as data, run and judged by one command: docs/study.md.

experiments -> schedule (runs, shared by what they train) -> queue (train, measure) -> findings -> report. Paper size
resolves the same experiments to the paper's presets (paper_size.py).
"""
