"""Whatever a notebook holds becomes the same decoded picture."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from omlx_jupyter.errors import ImageError
from omlx_jupyter.images.decoded import Limits
from omlx_jupyter.images.source import is_image_source, open_images

from ..conftest import noise_image


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "a picture.png"
    noise_image(40, 30).save(path)
    return path


def test_every_form_gives_the_same_digest(picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from IPython.display import Image as Shown

    monkeypatch.setenv("HOME", str(picture.parent))
    data = picture.read_bytes()
    image = Image.open(picture)
    array = np.asarray(image)
    text = base64.b64encode(data).decode()

    class OwnPng:
        def _repr_png_(self) -> bytes:
            return data

    class OwnBase64:
        def _repr_png_(self) -> tuple[str, dict]:
            return text, {"width": 40}

    forms = [
        str(picture),
        picture,
        f"~/{picture.name}",
        str(picture.parent / "*.png"),
        picture.as_uri(),
        f"data:image/png;base64,{text}",
        text,
        data,
        bytearray(data),
        memoryview(data),
        io.BytesIO(data),
        image,
        array,
        array.astype(np.float64) / 255,
        array.astype(np.int64),
        Shown(data=data),
        Shown(filename=str(picture)),
        OwnPng(),
        OwnBase64(),
        [image],
        open_images(picture)[0],
    ]
    digests = {open_images(form)[0].digest for form in forms}
    assert len(digests) == 1
    assert all(len(open_images(form)) == 1 for form in forms[4:])


def test_other_pixels_or_another_shape_give_another_digest() -> None:
    array = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    other = array.copy()
    other[0, 0, 0] += 1
    digests = {open_images(a)[0].digest for a in (array, other, array.reshape(4, 2, 3))}
    assert len(digests) == 3


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 1), (3, 4, 3), (3, 4, 4)])
def test_array_shapes(shape: tuple[int, ...]) -> None:
    image = open_images(np.full(shape, 255, np.uint8))[0]
    assert (image.width, image.height) == (4, 3)
    assert image.pixels.shape == (3, 4, 3)
    assert image.pixels.min() == 255


@pytest.mark.parametrize("ink", [(255, 255, 255), (250, 250, 190), (20, 20, 60), (200, 30, 30)])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pictures_are_laid_on_what_their_ink_stands_out_from(ink: tuple[int, int, int], mode: str) -> None:
    picture = Image.new("RGBA", (900, 60), (255, 255, 255, 0))
    ImageDraw.Draw(picture).text((10, 10), "Hello 42", font=ImageFont.load_default(30), fill=(*ink, 255))
    made = picture.quantize(16) if mode == "P" else picture.convert(mode)
    pixels = open_images(made)[0].pixels.astype(int)
    corner, spread = pixels[0, 0], np.abs(pixels - pixels[0, 0]).max()
    assert corner.tolist() == ([0, 0, 0] if min(ink[:2]) > 200 else [255, 255, 255])
    assert spread > 100


def test_white_on_transparent_is_read(tiny: Any) -> None:
    from omlx_jupyter.chat.pages import read_picture

    picture = Image.new("RGBA", (300, 60), (0, 0, 0, 0))
    ImageDraw.Draw(picture).text((10, 14), "Hello 42", font=ImageFont.load_default(24), fill="white")
    assert read_picture(tiny, open_images(picture)).result().text == "Hello 42"


def test_alpha_goes_over_white() -> None:
    clear = np.zeros((2, 2, 4), np.uint8)
    half = clear.copy()
    half[..., 3] = 128
    assert open_images(clear)[0].pixels.min() == 255
    assert 120 <= open_images(half)[0].pixels.max() <= 130
    palette = Image.new("P", (2, 2), 0)
    palette.info["transparency"] = 0
    buffer = io.BytesIO()
    palette.save(buffer, "PNG", transparency=0)
    assert open_images(buffer.getvalue())[0].pixels.min() == 255


def test_exif_orientation_is_applied() -> None:
    image = Image.new("RGB", (4, 2), "red")
    exif = image.getexif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", exif=exif)
    decoded = open_images(buffer.getvalue())[0]
    assert (decoded.width, decoded.height) == (2, 4)


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    values = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    pixels = open_images(png(Image.fromarray(values)))[0].pixels
    assert pixels[0, 0, 0] == 0
    assert 100 < pixels[4, 0, 0] < 150
    assert pixels[7, 7, 0] == 255


def test_frames_on_request() -> None:
    frames = [Image.new("RGB", (5, 5), c) for c in ("red", "green", "blue")]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    assert len(open_images(buffer.getvalue())) == 1
    every = open_images(buffer.getvalue(), frames="all")
    assert len({f.digest for f in every}) == 3
    pages = io.BytesIO()
    frames[0].save(pages, "TIFF", save_all=True, append_images=frames[1:])
    assert len(open_images(pages.getvalue(), frames="all")) == 3
    with pytest.raises(ImageError, match="more than 2 frames"):
        open_images(pages.getvalue(), Limits(max_frames=2), frames="all")


def test_matplotlib_figures_and_axes() -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2)
    axes[0].plot([1, 2, 3])
    digests = {open_images(v)[0].digest for v in (figure, axes[0], axes)}
    assert len(digests) == 1
    assert is_image_source(figure)
    assert is_image_source(axes[1])
    pyplot.close(figure)


def test_globs_sort_naturally(tmp_path: Path) -> None:
    for number in (10, 2, 1):
        Image.new("RGB", (number, 1)).save(tmp_path / f"page{number}.png")
    assert [i.width for i in open_images(str(tmp_path / "page*.png"))] == [1, 2, 10]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("nowhere.png", "there is no file nowhere.png"),
        ("~nobody_of_this_name/x.png", "there is no file ~nobody_of_this_name/x.png"),
        ("(" * 3000, "there is no file"),
        ("ftp://example.org/x.png", "URLs are http, https, file or data ones"),
        ("", "empty string"),
        ("no/such/*.png", "no file matches"),
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>", "HTML page"),
        (b"%PDF-1.7 x", "PDF"),
        (b"\x00" * 100, "not a picture"),
        ("data:image/png;base64", "no comma"),
        ("data:image/png;base64,@@@@", "not valid base64"),
        (np.zeros((2, 2, 2)), "shape (2, 2, 2)"),
        (np.zeros((0, 2)), "shape (0, 2)"),
        (np.full((2, 2), 1.5), "scale them into 0..1"),
        (np.full((2, 2), np.nan), "scale them into 0..1"),
        (np.full((2, 2), 256), "scale them into 0..255"),
        (np.array([["a"]]), "dtype"),
        (object(), "is not a picture"),
        (3, "is not a picture"),
        ([], "empty"),
    ],
)
def test_bad_sources_give_one_sentence(source: object, words: str) -> None:
    with pytest.raises(ImageError) as caught:
        open_images(source)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_truncated_file_never_gives_other_pixels(picture: Path) -> None:
    data, whole = picture.read_bytes(), open_images(picture)[0].digest
    refused = 0
    for length in range(1, len(data), 41):
        try:
            assert open_images(data[:length])[0].digest == whole  # only trailing bytes were lost
        except ImageError:
            refused += 1
    assert refused >= len(range(1, len(data) - 41, 41))


def test_limits(picture: Path) -> None:
    with pytest.raises(ImageError, match="megapixels"):
        open_images(picture, Limits(max_pixels=1000))
    with pytest.raises(ImageError, match="MiB"):
        open_images(picture, Limits(max_bytes=100))
    with pytest.raises(ImageError, match="MiB"):
        open_images(picture.read_bytes(), Limits(max_bytes=100))


def test_a_misspelt_file_is_suggested(picture: Path) -> None:
    with pytest.raises(ImageError, match=r"Did you mean .*a picture\.png"):
        open_images(str(picture.with_name("a pictrue.png")))
    with pytest.raises(ImageError, match="is a folder"):
        open_images(str(picture.parent))


def test_what_counts_as_a_picture_in_an_expression() -> None:
    assert is_image_source(Image.new("RGB", (2, 2)))
    assert is_image_source([Image.new("RGB", (2, 2))] * 2)
    assert is_image_source(np.zeros((5, 5, 3)))
    for value in ("text", 3, [1, 2], [], np.zeros(3), np.zeros((4, 4)), {"a": 1}, None):
        assert not is_image_source(value)
