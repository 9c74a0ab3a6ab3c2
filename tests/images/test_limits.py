"""What a picture may cost: sizes are read before pixels, memory is measured in a process of its own."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from omlx_jupyter.errors import ImageError, RequestError
from omlx_jupyter.images.decoded import Limits
from omlx_jupyter.images.source import open_images


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in ("max_bytes", "max_pixels", "max_frames", "max_pages") for value in (0, -1, 2.5)),
        *(("max_pixels", value) for value in ("many", True, None, float("nan"), 10**12)),
        *(("timeout_s", value) for value in (0, -1, float("nan"), float("inf"), "2", True)),
        *(("decode_timeout_s", 0), ("max_redirects", -1), ("max_redirects", 21), ("max_pdf_bytes", 0)),
        *(("pixel_budget", 0), ("pixel_budget", "all"), ("allow_private_urls", 1), ("use_proxy", "yes")),
    ],
)
def test_a_limit_is_checked_where_it_is_set(name: str, value: object) -> None:
    with pytest.raises(RequestError, match=rf"^{name} is .*; it must be .*\.$"):
        Limits(**{name: value})


def test_limits_take_numbers_of_any_library() -> None:
    limits = Limits(max_pixels=np.int64(10), timeout_s=np.float32(2), pixel_budget=np.int32(5))
    assert (type(limits.max_pixels), type(limits.timeout_s), type(limits.pixel_budget)) == (int, float, int)


_MEASURE = """
import resource, sys
from omlx_jupyter.images.decoded import Limits
from omlx_jupyter.images.source import open_images
import numpy, PIL.Image
open_images(open(sys.argv[2], "rb").read())  # everything is imported
data = open(sys.argv[1], "rb").read()
budget = int(sys.argv[3]) or None
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
made = open_images(data, Limits(max_pixels=10**9, pixel_budget=budget))[0]
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(grown * (1 if sys.platform == "darwin" else 1024), made.width, made.height)
"""


def _peak(path: Path, small: Path, budget: int = 0) -> tuple[int, int, int]:
    """Bytes by which the process grew at its peak, and the picture's size."""
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(path), str(small), str(budget)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    grown, width, height = map(int, done.stdout.split())
    return grown, width, height


@pytest.mark.parametrize(
    ("form", "mode", "options"),
    [
        ("PNG", "RGBA", {"compress_level": 1}),
        ("PNG", "I;16", {"compress_level": 1}),
        ("PNG", "P", {"transparency": 3, "compress_level": 1}),
        ("JPEG", "RGB", {"progressive": True, "subsampling": 0}),
        ("TIFF", "RGB", {"compression": "tiff_adobe_deflate", "exif": True}),
        ("AVIF", "RGB", {"speed": 10, "subsampling": "4:4:4"}),
        ("WEBP", "RGB", {"method": 0}),
        ("JPEG2000", "RGB", {}),
    ],
)
def test_peak_memory_of_a_picture(tmp_path: Path, form: str, mode: str, options: dict) -> None:
    """12 bytes a source pixel; formats that take more are allowed as many fewer pixels."""
    from omlx_jupyter.images.decode import _COST

    side, budget = 3000, 1_000_000 if mode == "RGB" else 0
    grey = Image.fromarray(np.add.outer(np.arange(side) // 7, np.arange(side) // 5).astype(np.uint8))
    image = Image.fromarray(np.asarray(grey, np.uint16) * 256) if mode == "I;16" else grey.convert(mode)
    if options.get("exif"):
        exif = image.getexif()
        exif[0x0112] = 6
        options = options | {"exif": exif}
    large, small = tmp_path / "large", tmp_path / "small"
    large.write_bytes(encoded(image, form, **options))
    small.write_bytes(encoded(image.resize((64, 64)), form, **options))
    del image
    grown, width, height = _peak(large, small, budget)
    assert (width, height) == ((side, side) if not budget else (1000, 1000))
    assert grown <= 12 * side * side * _COST.get(form, 1.0)


def test_a_source_over_the_limit_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    large, small = encoded(Image.new("1", (12_000, 10_001)), "PNG"), encoded(Image.new("1", (9, 9)), "PNG")
    with pytest.raises(ImageError, match=r"12000 x 10001, over the limit of 120 megapixels"):
        open_images(large)
    cut = large[:60]  # nothing but the header is there: the size is what it is refused for
    with pytest.raises(ImageError, match="over the limit of 120 megapixels"):
        open_images(cut)
    assert open_images(small)[0].width == 9


def test_decoders_written_in_python_get_fewer_pixels() -> None:
    """A plain PPM takes 0.9 s a megapixel."""
    plain = b"P3 4000 4000 255\n" + b"9 " * 30
    with pytest.raises(ImageError, match="limit of 10 megapixels for a PPM"):
        open_images(plain)


def test_a_jpeg_is_decoded_reduced_to_about_the_budget() -> None:
    ramp = np.add.outer(np.arange(1600), np.arange(2400)) // 16
    data = encoded(Image.fromarray(ramp.astype(np.uint8)).convert("RGB"), "JPEG", quality=95)
    budget = Limits(pixel_budget=150_000)
    reduced = open_images(data, budget)[0]
    whole = open_images(data)[0].shrunk_to(150_000)
    assert (reduced.width, reduced.height) == (whole.width, whole.height)
    assert reduced.note == whole.note
    assert "from 2400 x 1600 to 474 x 316" in reduced.note
    assert np.abs(reduced.pixels.astype(int) - whole.pixels).max() <= 12
    assert reduced.digest != whole.digest  # another way to the same picture: a quarter was decoded, not all
    png = encoded(Image.fromarray(whole.pixels), "PNG")
    assert open_images(png, budget)[0].note == ""


def test_other_formats_shrink_to_the_very_same_pixels() -> None:
    image = Image.effect_mandelbrot((900, 700), (-2, -1.5, 1, 1.5), 50)
    data = encoded(image, "PNG")
    budget = open_images(data, Limits(pixel_budget=60_000))[0]
    after = open_images(data)[0].shrunk_to(60_000)
    assert (budget.digest, budget.note) == (after.digest, after.note)


def test_every_orientation_is_turned_as_pillow_turns_it() -> None:
    from PIL import ImageOps

    image = Image.fromarray(np.arange(6 * 4 * 3, dtype=np.uint8).reshape(6, 4, 3))
    for orientation in range(1, 9):
        exif = image.getexif()
        exif[0x0112] = orientation
        data = encoded(image, "PNG", exif=exif)
        expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
        assert np.array_equal(open_images(data)[0].pixels, expected), orientation


def test_frames_are_limited_in_number_together_and_in_time() -> None:
    frames = [Image.new("L", (100, 100), shade) for shade in (10, 60, 110, 160)]
    data = encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    assert len(open_images(data, Limits(max_frames=4), frames="all")) == 4
    with pytest.raises(ImageError, match="more than 3 frames"):
        open_images(data, Limits(max_frames=3), frames="all")
    assert len(open_images(data, Limits(max_pixels=10_000), frames="all")) == 4
    with pytest.raises(ImageError, match="more frames than fit"):
        open_images(encoded(frames[0], "TIFF", save_all=True, append_images=frames), Limits(max_pixels=10_000), "all")
    with pytest.raises(ImageError, match=r"took over 0\.001 s"):
        open_images(_large_gif(), Limits(decode_timeout_s=0.001), frames="all")


def _large_gif() -> bytes:
    frames = [Image.effect_noise((400, 400), shade) for shade in (10, 60, 110)]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


def test_a_later_frame_over_the_limit_is_refused() -> None:
    data = encoded(Image.new("L", (9, 9)), "TIFF", save_all=True, append_images=[Image.new("L", (400, 400))])
    with pytest.raises(ImageError, match="400 x 400, over the limit"):
        open_images(data, Limits(max_pixels=10_000), frames="all")


def test_bytes_are_counted_before_they_are_decoded() -> None:
    few = Limits(max_bytes=1000)
    text = "iVBORw0KGgo" * 1000
    for source in (f"data:image/png;base64,{text}", text, "data:image/png," + "%00" * 2000, memoryview(bytes(2000))):
        with pytest.raises(ImageError, match="over the limit of 1000 bytes"):
            open_images(source, few)
    with pytest.raises(ImageError, match="over the limit of 1000 bytes"):  # rather than that it is no base64
        open_images("data:image/png;base64," + "@" * 3000, few)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no such thing as a FIFO here")
def test_what_is_no_plain_file_never_hangs(tmp_path: Path) -> None:
    fifo, door = tmp_path / "fifo.png", tmp_path / "door.png"
    os.mkfifo(fifo)
    os.mkfifo(tmp_path / "fifo.pdf")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(door))
    link = tmp_path / "link.png"
    link.symlink_to("/dev/zero")
    failures: dict[object, str] = {}

    def attempt(source: object) -> None:
        try:
            open_images(source)
        except ImageError as error:
            failures[source] = str(error)

    sources = [fifo, str(fifo), fifo.as_uri(), door, link, "/dev/zero", tmp_path, str(tmp_path / "fifo.pdf")]
    threads = [threading.Thread(target=attempt, args=(source,), daemon=True) for source in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    listener.close()
    assert len(failures) == len(sources), failures
    for source in (fifo, link, "/dev/zero"):
        assert "is a pipe, socket or device, not a file" in failures[source]
