"""What an answer keeps of its pictures."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from omlx_jupyter.errors import ImageError
from omlx_jupyter.images.decoded import DecodedImage, Limits
from omlx_jupyter.images.kept import KeptImage, Shelf
from omlx_jupyter.images.source import is_image_source, open_images

SIDE = 700


def page(seed: int = 0) -> Image.Image:
    """Mostly white, as pages are."""
    pixels = np.full((SIDE, SIDE, 3), 255, np.uint8)
    pixels[::7, ::5] = np.random.default_rng(seed).integers(0, 255, 3)
    return Image.fromarray(pixels)


def kept(image: DecodedImage, shelf: Shelf | None = None) -> KeptImage:
    shelf = shelf or Shelf()
    made = shelf.keep(image)
    shelf.wait()
    return made


def test_a_picture_of_a_file_is_opened_again(tmp_path: Path) -> None:
    page().save(tmp_path / "a.png")
    (image,) = open_images(tmp_path / "a.png")
    made = kept(image)
    same, digest = np.array(image.pixels), image.digest
    del image
    gc.collect()
    assert made.nbytes < 100_000
    assert (made.pixels == same).all()
    (again,) = open_images(made)
    assert again.digest == digest
    assert (again.width, again.height, again.source) == (SIDE, SIDE, str(tmp_path / "a.png"))
    assert is_image_source(made)


def test_with_the_limits_that_it_was_opened_with(tmp_path: Path) -> None:
    page().save(tmp_path / "a.png")
    (image,) = open_images(tmp_path / "a.png", Limits(pixel_budget=200_000))
    made = kept(image)
    digest = image.digest
    del image
    assert made.width < SIDE
    assert open_images(made)[0].digest == digest


def test_a_frame_is_found_among_others(tmp_path: Path) -> None:
    page(1).save(tmp_path / "a.tiff", save_all=True, append_images=[page(2), page(3)])
    images = open_images(tmp_path / "a.tiff", frames="all")
    shelf = Shelf()
    made = [kept(image, shelf) for image in images]
    pixels = [np.array(image.pixels) for image in images]
    del images
    assert all((one.pixels == other).all() for one, other in zip(made, pixels, strict=True))


def test_a_file_that_changed_leaves_its_thumbnail(tmp_path: Path) -> None:
    page(1).save(tmp_path / "a.png")
    made = kept(open_images(tmp_path / "a.png")[0])
    page(2).save(tmp_path / "a.png")
    with pytest.raises(ImageError, match="has changed since"):
        _ = made.pixels
    assert made.preview().size == (SIDE // 2, SIDE // 2)
    assert made.png().startswith(b"\x89PNG")
    (tmp_path / "a.png").unlink()
    with pytest.raises(ImageError, match=r"a\.png"):
        open_images(made)


def test_a_file_that_changed_before_it_was_packed_is_kept_itself(tmp_path: Path) -> None:
    page(1).save(tmp_path / "a.png")
    (image,) = open_images(tmp_path / "a.png")
    page(2).resize((SIDE + 1, SIDE)).save(tmp_path / "a.png")
    made = kept(image)
    same = np.array(image.pixels)
    del image
    assert (made.pixels == same).all()


def test_any_other_is_packed_without_loss() -> None:
    (image,) = open_images(page())
    made, same = kept(image), np.array(image.pixels)
    del image
    gc.collect()
    assert made.nbytes < 200_000 < same.nbytes
    assert (made.pixels == same).all()


def test_beyond_the_bound_the_oldest_have_thumbnails() -> None:
    noise = [np.random.default_rng(seed).integers(0, 255, (400, 400, 3), np.uint8) for seed in range(4)]
    shelf = Shelf(most=1_200_000)
    made = [shelf.keep(open_images(pixels)[0]) for pixels in noise]
    shelf.wait()
    gc.collect()
    with pytest.raises(ImageError, match="isn't kept any longer"):
        _ = made[0].pixels
    assert made[0].preview().size == (200, 200)
    assert (made[-1].pixels == noise[-1]).all()


def test_one_picture_is_kept_once() -> None:
    shelf = Shelf()
    (image,) = open_images(page())
    assert shelf.keep(image) is shelf.keep(image)
