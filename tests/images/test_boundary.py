"""Whatever a decoder or somebody's object raises is an ImageError with its word in it."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from omlx_jupyter.errors import ImageError
from omlx_jupyter.images.decoded import Limits
from omlx_jupyter.images.source import is_image_source, open_images

PIXEL_FORMAT_AT = 76
RAISED = (
    *(NotImplementedError, TypeError, KeyError, struct.error, SyntaxError, MemoryError, RecursionError),
    *(RuntimeError, AttributeError, AssertionError, ZeroDivisionError, OverflowError, StopIteration, EOFError),
    *(OSError, UnicodeError, Image.DecompressionBombError, Image.DecompressionBombWarning),
)


def _png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "PNG")
    return buffer.getvalue()


def _sentence(source: object, limits: Limits | None = None) -> str:
    with pytest.raises(ImageError) as caught:
        open_images(source, limits)
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith((".", "?", ")"))
    return text


def _failing(error: type[BaseException]) -> Callable[..., NoReturn]:
    def fail(*_: object, **__: object) -> NoReturn:
        raise error("the decoder's word\nand more")

    return fail


@pytest.mark.parametrize("error", RAISED, ids=lambda error: error.__name__)
@pytest.mark.parametrize("place", ["load", "_open", "getexif"])
def test_whatever_a_decoder_raises(error: type[Exception], place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PngImagePlugin.PngImageFile, place, _failing(error))
    if place == "getexif":  # the pixels are whole without it
        assert open_images(_png())[0].width == 8
        return
    _sentence(_png())


def test_a_decoders_word_is_in_the_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    dds = bytearray(b"DDS " + struct.pack("<7I", 124, 0x1007, 4, 4, 16, 0, 0) + bytes(96))
    struct.pack_into("<3I", dds, PIXEL_FORMAT_AT, 32, 0x800000, 0)
    assert "NotImplementedError: Unknown pixel format" in _sentence(bytes(dds))
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", _failing(TypeError))
    assert "TypeError: the decoder's word and more" in _sentence(_png())


def test_formats_that_start_a_program_are_left_out() -> None:
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
    assert "PostScript" in _sentence(eps)


class _Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class _Draws:
    def __init__(self, made: Any) -> None:
        self._made = made

    def _repr_png_(self) -> Any:
        if isinstance(self._made, type):
            raise self._made("the object's word")
        return self._made


@pytest.mark.parametrize("error", [*RAISED, _Unprintable], ids=lambda error: error.__name__)
def test_objects_that_fail(error: type[Exception]) -> None:
    class Array:
        shape = (4, 4, 3)

        def __array__(self, *_: object, **__: object) -> np.ndarray:
            raise error("the array's word")

    class Property:
        @property
        def figure(self) -> object:
            raise error("the property's word")

    class File:
        def read(self, count: int) -> bytes:
            raise error("the file's word")

    assert "failed to draw itself" in _sentence(_Draws(error)) or error is MemoryError
    for source in (Array(), Property(), File()):
        _sentence(source)
    if error is not AttributeError:
        assert not is_image_source(Property())


def test_objects_that_give_something_else() -> None:
    for made in (5, [1, 2], "@@@", ("@@@", {}), object(), 3.5):
        _sentence(_Draws(made))
    for made in (bytearray(_png()), memoryview(_png()), (_png(), {})):
        assert open_images(_Draws(made))[0].width == 8
    assert "over the limit" in _sentence(_Draws("A" * 5000), Limits(max_bytes=1000))
    looped: list[object] = []
    looped.append(looped)
    assert "RecursionError" in _sentence(looped)
    assert not is_image_source(looped)


def test_arrays_over_the_limit_are_refused_before_they_are_made() -> None:
    class Lazy:
        shape = (100_000, 100_000, 3)

        def __array__(self, *_: object, **__: object) -> NoReturn:
            raise AssertionError("was computed")

    assert "100000 x 100000, over the limit" in _sentence(Lazy())
    assert "over the limit" in _sentence(np.broadcast_to(np.uint8(0), (20_000, 20_000)))


def test_figures_that_fail_or_are_huge() -> None:
    from matplotlib.figure import Figure

    huge = Figure(figsize=(1000, 1000))
    assert "100000 x 100000 pixels, over the limit" in _sentence(huge)
    far = Figure()
    far.add_subplot().annotate("far away", (0.5, 0.5), xytext=(900_000, 900_000), textcoords="offset points")
    assert "megapixels" in _sentence(far)
    broken = Figure()
    broken.add_subplot().set_title(r"$\nosuchmacro{$")
    assert "failed to draw itself" in _sentence(broken)
