"""The one error that means "the input is wrong, not the program", and how its messages list names.

Raised at public boundaries with one line that names the value, the rule and the remedy. The command line prints it as
`error: ...` and exits with 2; the nodes show it on the node. Everything else that is raised is a bug.
"""

from __future__ import annotations

from collections.abc import Collection


class InputError(ValueError):
    """Bad input of a user: one line, e.g. "82 frames: Wan needs 4n+1; use 81 or 85"."""


def some(names: Collection[str], count: int = 3) -> str:
    """The first few names for a message: "a, b, c and 5 more"."""
    ordered = sorted(names)
    more = f" and {len(ordered) - count} more" if len(ordered) > count else ""
    return ", ".join(ordered[:count]) + more
