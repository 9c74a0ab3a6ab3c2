"""Text that others wrote, made harmless for a terminal: some characters are acted on there, and are shown here."""

from __future__ import annotations

import re

# C0 but line feed and tab, DEL, C1 (a terminal takes U+009B for ESC [), and what turns the direction of the text
# around it, so that a line reads other than it is
_ACTIVE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def shown(text: object) -> str:
    """The text with symbols for what a terminal would carry out: ␛ for ESC, \\x9b, \\u202e."""
    return _ACTIVE.sub(_symbol, str(text))


def _symbol(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def size(count: float) -> str:
    """Bytes for people: 512 KiB, 1.5 GiB."""
    for unit in ("B", "KiB", "MiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 10 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
