"""Any mode of Pillow -> (H, W, 3) uint8, a band of rows at a time, so that no second whole picture is held."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from .sizes import shrunk_size

_BAND_PIXELS = 1_000_000
_LOOK = 512  # pixels of the longer side at which the ink is looked at
_WHITISH = 215  # mean brightness, 0 to 255, of ink that is lost on white
_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {  # EXIF's orientations
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: pixels.swapaxes(0, 1)[:, ::-1],
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: pixels.swapaxes(0, 1)[::-1],
}
_ORIENTATION = 0x0112


def to_rgb(image: Image.Image) -> np.ndarray:
    """Upright RGB pixels: EXIF orientation applied, transparency over white (over black where what is drawn is as good
    as white), 16 bits scaled rather than clipped."""
    turn = _TURNS.get(_orientation(image))
    top, ground = _top(image), _ground(image)
    width, height = image.size
    made = np.empty((height, width, 3), np.uint8)
    step = max(1, _BAND_PIXELS // width)
    for y in range(0, height, step):
        band = image.crop((0, y, width, min(height, y + step)))
        made[y : y + step] = np.asarray(_flat(band, top, ground))
    return made if turn is None else np.ascontiguousarray(turn(made))


def _orientation(image: Image.Image) -> int:
    """A damaged EXIF block turns nothing: the pixels are whole without it."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:
        return 1


def _deep(image: Image.Image) -> bool:
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def _top(image: Image.Image) -> float:
    """The value that becomes white in a mode of more than 8 bits."""
    if image.mode != "F":
        return 65535.0
    highest = float(image.getextrema()[1])  # type: ignore[arg-type]
    return 65535.0 if highest > 255 else (255.0 if highest > 1 else 1.0)


def _is_transparent(image: Image.Image) -> bool:
    palette = getattr(image, "palette", None) if image.mode == "P" else None
    by_palette = palette is not None and palette.mode == "RGBA"
    return image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info or by_palette


def _ground(image: Image.Image) -> int:
    """The grey that a transparent picture is laid on: the one that its ink stands out from."""
    if not _is_transparent(image) or _deep(image):
        return 255
    width, height = (max(1, min(side, side * _LOOK // max(image.size))) for side in image.size)
    small = image.resize((width, height), Image.Resampling.NEAREST)
    layer = np.asarray(small.convert("RGBA"), dtype=np.float64)
    opacity = layer[:, :, 3]
    if not opacity.any() or opacity.min() > 200:
        return 255
    brightness = layer[:, :, :3] @ (0.299, 0.587, 0.114)
    return 0 if (brightness * opacity).sum() / opacity.sum() > _WHITISH else 255


def _flat(band: Image.Image, top: float, ground: int = 255) -> Image.Image:
    if _deep(band):
        values = np.nan_to_num(np.asarray(band, dtype=np.float64))
        band = Image.fromarray(np.clip(values / top * 255, 0, 255).astype(np.uint8))
    if _is_transparent(band):
        layer = band.convert("RGBA")
        below = Image.new("RGBA", layer.size, (ground, ground, ground, 255))
        return Image.alpha_composite(below, layer).convert("RGB")
    return band.convert("RGB")


def within(pixels: np.ndarray, budget: int) -> np.ndarray:
    """The picture itself if it has at most `budget` pixels, else a smaller one of the same shape."""
    height, width = pixels.shape[:2]
    size = shrunk_size(width, height, budget)
    if size == (width, height):
        return pixels
    return np.array(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))
