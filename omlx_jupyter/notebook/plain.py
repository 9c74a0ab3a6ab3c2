"""What is printed. A terminal acts on some characters: model text, names and errors show them instead."""

from __future__ import annotations

import sys

from ..visible import shown as shown


def name(text: object) -> str:
    """As `shown`, on one line: for names, whose line ends would begin lines of their own."""
    return shown(text).replace("\n", "␊")


def bar(share: float) -> str:
    """A progress bar in text: ████░░░░."""
    full = int(20 * min(1.0, share))
    return "█" * full + "░" * (20 - full)


def tell(text: object = "", end: str = "\n", error: bool = False) -> None:
    """Print a line at once. Everything that this package prints goes through here."""
    print(shown(text), end=end, file=sys.stderr if error else sys.stdout, flush=True)
