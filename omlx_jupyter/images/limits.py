"""What a source may cost before it is refused."""

from __future__ import annotations

from dataclasses import dataclass, fields
from numbers import Integral, Real

from ..errors import RequestError

_WHOLE = {
    "max_bytes": (1, 2**40),
    "max_pdf_bytes": (1, 2**40),
    "max_pixels": (1, 10**11),
    "max_frames": (1, 10**6),
    "max_pages": (1, 10**6),
    "max_redirects": (0, 20),
}
_SECONDS = {"timeout_s": (0.001, 86_400.0), "decode_timeout_s": (0.001, 86_400.0)}
_SWITCHES = ("allow_private_urls", "use_proxy")
# Names that the notebook's settings have, where they count in larger units.
_SETTINGS = {
    "max_bytes": "max_image_mib",
    "max_pixels": "max_image_megapixels",
    "max_pdf_bytes": "max_pdf_mib",
    "timeout_s": "fetch_timeout_s",
}


def raising(name: str) -> str:
    """How a limit is raised, for an error: the notebook's setting, then the field of `Limits`."""
    return f"raise Omlx.{_SETTINGS.get(name, name)} (%config; in Python, Limits({name}=...))"


@dataclass(frozen=True)
class Limits:
    """What a source may cost before it is refused.

    `max_bytes` counts the encoded picture after any transfer compression; `max_pdf_bytes` a PDF, which is
    read page by page. `max_pixels` is compared with the size in the file's header: decoding takes at most
    12 bytes of memory for each, so formats that want more (WebP, JPEG 2000) are allowed fewer. With
    `pixel_budget`, pictures come out with at most that many pixels (a note says so) and are decoded
    reduced where the format can; None keeps them whole. `max_frames` and `max_pages` count the frames or
    pages of one source. `timeout_s` is for one download as a whole, `decode_timeout_s` for one file, both
    in seconds. `use_proxy` takes the environment's proxy, which then makes the connection: the addresses
    it connects to can't be checked.

    :raises RequestError: a value of another type or outside its range.
    """

    max_bytes: int = 64 * 1024 * 1024
    max_pixels: int = 120_000_000
    max_redirects: int = 5
    timeout_s: float = 20.0
    allow_private_urls: bool = False
    max_frames: int = 500
    max_pages: int = 2000
    max_pdf_bytes: int = 1024 * 1024 * 1024
    decode_timeout_s: float = 60.0
    pixel_budget: int | None = None
    use_proxy: bool = False

    def __post_init__(self) -> None:
        unit = {f.name: f.name.removeprefix("max_") for f in fields(self)}
        for name, (low, high) in _WHOLE.items():
            self._check(name, Integral, low, high, f"a whole number of {unit[name]}")
        for name, (least, most) in _SECONDS.items():
            self._check(name, Real, least, most, "a number of seconds")
        if self.pixel_budget is not None:
            self._check("pixel_budget", Integral, 1, 10**11, "a whole number of pixels, or None")
        for name in _SWITCHES:
            if not isinstance(getattr(self, name), bool):
                raise RequestError(f"{name} is {getattr(self, name)!r}; it must be True or False.")

    def _check(self, name: str, kind: type[Integral] | type[Real], low: float, high: float, what: str) -> None:
        value = getattr(self, name)
        number = _number(value, kind)
        if number is None or not low <= number <= high:  # nor NaN
            raise RequestError(f"{name} is {value!r}; it must be {what} between {low} and {high}.")
        object.__setattr__(self, name, number)

    @property
    def all_pixels(self) -> int:
        """Pixels that all pictures of one file may have together: as many as fit 12 bytes a source pixel."""
        return 4 * self.max_pixels


def _number(value: object, kind: type[Integral] | type[Real]) -> int | float | None:
    """A plain number (of numpy's too), or None: the value is none of that kind."""
    if isinstance(value, bool) or not isinstance(value, kind):
        return None
    return int(value) if kind is Integral and isinstance(value, Integral) else float(value)
