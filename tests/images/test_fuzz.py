"""Small valid files of every format, mutated: a picture or an ImageError comes out, nothing else.

300 cases in the ordinary run; OMLX_TORTURE_FUZZ sets another number.
"""

from __future__ import annotations

import io
import os
import random
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from omlx_jupyter.errors import ImageError
from omlx_jupyter.images.decoded import Limits
from omlx_jupyter.images.source import open_images

from .test_pdf import page_of, stream

CASES = int(os.environ.get("OMLX_TORTURE_FUZZ", "300"))
LIMITS = Limits(max_pixels=2_000_000, max_frames=20, decode_timeout_s=5)
MODES = {
    "PNG": "RGBA",
    "JPEG": "RGB",
    "GIF": "P",
    "WEBP": "RGB",
    "TIFF": "RGB",
    "BMP": "RGB",
    "PPM": "L",
    "ICO": "RGBA",
    "AVIF": "RGB",
    "JPEG2000": "RGB",
    "DDS": "RGBA",
    "TGA": "RGB",
    "SGI": "RGB",
    "PCX": "L",
    "QOI": "RGB",
    "ICNS": "RGBA",
}


def _seeds() -> list[tuple[str, bytes]]:
    made = []
    for form, mode in MODES.items():
        image = Image.radial_gradient("L").resize((32, 32)).convert(mode)
        exif = image.getexif()
        exif[0x0112] = 6
        variants: list[dict[str, object]] = [{}]
        if form in ("PNG", "JPEG", "TIFF", "WEBP"):
            variants.append({"exif": exif})
        if form in ("PNG", "GIF", "WEBP", "TIFF"):
            variants.append({"save_all": True, "append_images": [image.rotate(90), image.rotate(180)]})
        if form == "TIFF":
            variants += [{"compression": name} for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")]
        for options in variants:
            buffer = io.BytesIO()
            image.save(buffer, form, **options)
            made.append((form, buffer.getvalue()))
    picture = stream(
        bytes(range(64)), b"/Type/XObject/Subtype/Image/Width 8/Height 8/ColorSpace/DeviceGray/BitsPerComponent 8"
    )
    page = page_of("0 0 40 40", b"q 40 0 0 40 0 0 cm /I Do Q 0 0 m 9 9 l S", b"/XObject<</I 5 0 R>>", (picture,))
    return [*made, ("PDF", page), ("PDF", page)]


def _flip(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _extreme(data: bytearray, chance: random.Random) -> None:
    """Numbers at the edge of their range, mostly where headers are."""
    at = chance.randrange(min(len(data), chance.choice((32, 128, len(data)))))
    data[at : at + 4] = chance.choice(
        (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\0\0\0\1")
    )


def _cut(data: bytearray, chance: random.Random) -> None:
    del data[1 + chance.randrange(len(data)) :]


def _move(data: bytearray, chance: random.Random) -> None:
    start, size, to = (chance.randrange(len(data)) for _ in range(3))
    data[to:to] = data[start : start + min(size, 64)]


def _drop(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data))
    del data[start : start + chance.randrange(1, 32)]
    data += b"\0" * (not data)


MUTATIONS: tuple[Callable[[bytearray, random.Random], None], ...] = (_flip, _extreme, _cut, _move, _drop)


def test_mutated_files_give_pictures_or_image_errors(tmp_path: Path) -> None:
    seeds, chance = _seeds(), random.Random(12)
    for form, data in seeds:  # whole, each of them is a picture
        assert _outcome(form, data, tmp_path), form
    decoded = 0
    for case in range(CASES):
        form, data = seeds[case % len(seeds)]
        mutated = bytearray(data)
        for _ in range(chance.choice((1, 1, 2, 3))):
            chance.choice(MUTATIONS)(mutated, chance)
        started = time.monotonic()
        try:
            decoded += _outcome(form, bytes(mutated), tmp_path)
        except Exception as error:
            pytest.fail(f"case {case}, {form}: {type(error).__name__}: {error}\n{bytes(mutated).hex()}")
        assert time.monotonic() - started < 10, f"case {case}, {form}: {bytes(mutated).hex()}"
    assert 0.05 * CASES < decoded < 0.95 * CASES


def _outcome(form: str, data: bytes, folder: Path) -> bool:
    source: bytes | str = data
    if form == "PDF":
        source = str(folder / "a.pdf")
        Path(source).write_bytes(data)
    said = ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            open_images(source, LIMITS, frames="all")
        except ImageError as error:
            said = str(error)
    assert "\n" not in said
    assert len(said) < 700
    return not said
