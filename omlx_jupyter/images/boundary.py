"""What a decoder, a codec or somebody's object raises leaves this room as one ImageError."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import ImageError

_LONGEST = 200  # characters of a decoder's word


@contextmanager
def one_sentence(source: str, failed: str = "can't be decoded", mend: str = "get a whole copy of it") -> Iterator[None]:
    """Whatever is raised inside becomes an ImageError: the source, the decoder's word and the mend.

    Decoders raise what they like on bytes that they did not expect (NotImplementedError, TypeError,
    struct.error, PdfiumError, RecursionError, ...), so no list of types would ever be whole.
    """
    try:
        yield
    except ImageError:
        raise
    except MemoryError:
        raise ImageError(f"{one_line(source)} needs more memory than there is; shrink it first.") from None
    except Exception as error:
        raise ImageError(f"{one_line(source)} {failed} ({word(error)}); {mend}.") from error


def word(error: BaseException) -> str:
    """An error's own text on one line, with its type where the text alone says little."""
    try:
        text = one_line(str(error))
    except Exception:  # somebody's __str__
        text = ""
    name = type(error).__name__
    if not text:
        return name
    return text if isinstance(error, OSError | ValueError) else f"{name}: {text}"


def one_line(text: str) -> str:
    """Text on one line and cut to a length, with control characters shown as such."""
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in " ".join(text[: 4 * _LONGEST].split()))
    return shown if len(shown) <= _LONGEST else shown[:_LONGEST] + "…"
