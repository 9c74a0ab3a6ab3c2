"""RGB page -> upright map of ink: how far each pixel lies from its surroundings, whatever their colour."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

STROKE = 17  # px; a stroke is narrower, a background wider
_FAINTEST = 24  # levels of 255 from the background
_ROUGH = 48  # levels
_SHARE = 0.35  # of the strongest ink nearby
MAX_SKEW = 5.0  # degrees
_GRAINY = 2.5  # levels
_POINTS = 20_000  # of ink that the skew is measured on


@dataclass(frozen=True)
class _Found:
    """A page's ink. All maps are (h, w), `ink` uint8, the others bool.

    `doubt` is ink that borders on its own colour where that isn't ink, `rough` ink on no even ground, such as a
    photograph's. `missed` is the share of edges that no ink explains: strokes too wide, or pictures.
    """

    ink: np.ndarray
    mask: np.ndarray
    doubt: np.ndarray
    rough: np.ndarray
    missed: float
    edges: float


@dataclass(frozen=True)
class InkMap(_Found):
    """A page turned upright. `back` (2, 3) turns (x, y) here into the page's pixels; `skew` is in degrees."""

    back: np.ndarray
    skew: float
    noisy: bool


def upright_ink(rgb: np.ndarray, factor: float = 1.0) -> InkMap:
    """The ink of a (H, W, 3) uint8 page, turned upright, at `factor` of its size."""
    if factor != 1:
        size = (max(1, round(rgb.shape[1] * factor)), max(1, round(rgb.shape[0] * factor)))
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    noise = _noise(rgb)
    least = max(_FAINTEST, 2.5 * noise)
    found = _find(rgb, noise > _GRAINY, least)
    skew = _skew(found.mask)
    back: np.ndarray = np.eye(2, 3)
    if skew:
        shape = rgb.shape[:2]
        turn, size = _turn(shape, skew)
        # The page is turned, not its ink: a bar's slanted edges would leave remnants.
        rgb = cv2.warpAffine(rgb, turn, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        found = _find(rgb, noise > _GRAINY, least)
        inside = cv2.warpAffine(np.ones(shape, np.uint8), turn, size, flags=cv2.INTER_NEAREST)
        found.mask[cv2.erode(inside, np.ones((5, 5), np.uint8)) == 0] = False  # grain at the rim makes streaks
        back = cv2.invertAffineTransform(turn)
    return InkMap(**vars(found), back=back / factor, skew=skew, noisy=noise > _GRAINY)


def _find(rgb: np.ndarray, noisy: bool, least: float) -> _Found:
    """Where the ink is shows best without grain; what is drawn is the ink as it was, for blur makes it bold."""
    smooth = cv2.GaussianBlur(rgb, (3, 3), 0) if noisy else rgb
    around = _surroundings(smooth)
    plain = around.ink_of(smooth)
    mask = _strong(plain, least)
    drawn = around.ink_of(rgb) if noisy else plain
    missed, edges = _missed(mask, around.edge), float(around.edge.mean())
    return _Found(drawn, mask, _doubtful(mask, around), mask & around.rough(), missed, edges)


@dataclass(frozen=True)
class _Surroundings:
    """`paper` and `ground` are what dark and light ink lie on, (h, w, 3). Near an edge: which pixels are `dark` and
    which `light`, and where dark is the ink; `darker` says so of each channel, (h, w, 3) or (h, w, 1) for all."""

    paper: np.ndarray
    ground: np.ndarray
    edge: np.ndarray
    dark: np.ndarray
    light: np.ndarray
    dark_is_ink: np.ndarray
    darker: np.ndarray

    def ink_of(self, rgb: np.ndarray) -> np.ndarray:
        below, above = cv2.subtract(self.paper, rgb), cv2.subtract(rgb, self.ground)
        return self._ink(below, above)

    def _ink(self, below: np.ndarray, above: np.ndarray) -> np.ndarray:
        if self.darker.shape[2] == 1:
            return np.where(self.dark_is_ink, _largest(below), _largest(above))
        return _largest(np.where(self.darker, below, above))

    def rough(self) -> np.ndarray:
        """Where what the ink lies on changes within a stroke's width."""
        window = np.ones((STROKE, STROKE), np.uint8)
        spread = (cv2.morphologyEx(g, cv2.MORPH_GRADIENT, window) for g in (self.paper, self.ground))
        return self._ink(*spread) > _ROUGH


def _doubtful(mask: np.ndarray, sides: _Surroundings) -> np.ndarray:
    """The sliver of a bar between its rim and its writing is narrow too, but goes on as the bar."""
    window = np.ones((3, 3), np.uint8)
    dark, light = (cv2.dilate((side & ~mask).astype(np.uint8), window) > 0 for side in (sides.dark, sides.light))
    return mask & np.where(sides.dark_is_ink, dark, light)


def _noise(rgb: np.ndarray) -> float:
    """Standard deviation of the grain, in levels; 0 for what a screen shows."""
    grey = rgb[::2, :, 1].astype(np.int16)
    if grey.shape[1] < 3:
        return 0.0
    second = np.abs(2 * grey[:, 1:-1] - grey[:, :-2] - grey[:, 2:])
    return float(np.median(second)) * 1.4826 / 6**0.5


def _missed(mask: np.ndarray, edge: np.ndarray) -> float:
    explained = cv2.dilate(mask.astype(np.uint8), np.ones((STROKE, STROKE), np.uint8)) > 0
    return float((edge & ~explained).sum()) / max(1, int(edge.sum()))


def _surroundings(rgb: np.ndarray) -> _Surroundings:
    """Closing takes away narrow dark things, opening narrow light ones; what they took is ink.

    Which of the two is ink is what fewer pixels near an edge are: letters fill less than their surroundings.
    """
    window = np.ones((STROKE, STROKE), np.uint8)
    light, dark = cv2.dilate(rgb, window), cv2.erode(rgb, window)
    grey, high, low = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (rgb, light, dark))
    edge = cv2.subtract(high, low) > _FAINTEST
    from_dark, from_light = cv2.subtract(grey, low), cv2.subtract(high, grey)
    is_ink = _vote(grey, low, high) <= 0
    nearly_dark, nearly_light = edge & (from_light // 3 > from_dark), edge & (from_dark // 3 > from_light)
    darker = _by_channel(rgb, dark, light, is_ink)
    paper, ground = cv2.erode(light, window), cv2.dilate(dark, window)
    return _Surroundings(paper, ground, edge, nearly_dark, nearly_light, is_ink, darker)


def _vote(values: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Above 0 where most pixels near an edge are dark, below 0 where most are light."""
    edge = cv2.subtract(high, low) > _FAINTEST
    is_dark = cv2.subtract(high, values) > cv2.subtract(values, low)
    vote = np.where(edge, np.where(is_dark, np.float32(1), np.float32(-1)), np.float32(0))
    return cv2.blur(vote, (65, 25), borderType=cv2.BORDER_CONSTANT)


def _by_channel(rgb: np.ndarray, dark: np.ndarray, light: np.ndarray, is_ink: np.ndarray) -> np.ndarray:
    """Where dark is the ink, of each channel. Blue letters on yellow are darker in red and green and lighter in blue:
    then the extremes of the channels come from different pixels, and one answer for all would call all of it ink."""
    mean = np.full((1, 3), 1 / 3, np.float32)
    most = cv2.dilate(cv2.transform(rgb, mean), np.ones((STROKE, STROKE), np.uint8))
    mixed = cv2.subtract(cv2.transform(light, mean), most) > _FAINTEST
    if not mixed.any():
        return is_ink[..., None]
    votes = [_vote(*(cv2.extractChannel(image, i) for image in (rgb, dark, light))) for i in range(3)]
    return np.stack([np.where(mixed & (vote != 0), vote <= 0, is_ink) for vote in votes], axis=2)


def _largest(rgb: np.ndarray) -> np.ndarray:
    red, green, blue = cv2.split(rgb)
    return cv2.max(cv2.max(red, green), blue)


def _strong(ink: np.ndarray, least: float) -> np.ndarray:
    """Where ink is a good part of the strongest ink around it, so that grey type beside black counts."""
    rows, columns = ink.shape
    small = ink[: rows // 8 * 8, : columns // 8 * 8]
    if not small.size:
        return ink > max(least, _SHARE * float(ink.max(initial=0)))
    peaks = small.reshape(rows // 8, 8, columns // 8, 8).max((1, 3))
    peaks = cv2.dilate(peaks, np.ones((3, 9), np.uint8))
    limit = np.maximum(least, _SHARE * cv2.resize(peaks, (columns, rows), interpolation=cv2.INTER_LINEAR))
    found: np.ndarray = ink > limit
    return found


def _skew(mask: np.ndarray) -> float:
    """Degrees by which the page must be turned, by the sharpest profile of its rows; 0 if that says little."""
    points = np.flatnonzero(mask)
    if len(points) < 200:
        return 0.0
    if len(points) > _POINTS:
        points = np.random.default_rng(0).choice(points, _POINTS, replace=False)
    y, x = np.divmod(points, mask.shape[1])
    if np.ptp(x) < 100:
        return 0.0
    x = x - x.mean()

    def sharpness(degrees: float) -> float:
        rows = y + x * np.tan(np.radians(degrees))
        rows -= rows.min()
        above = rows.astype(np.int64)
        share = rows - above  # a point between two rows counts for both
        profile = np.bincount(above, 1 - share, above.max() + 2) + np.bincount(above + 1, share, above.max() + 2)
        return float((np.diff(profile) ** 2).sum())

    coarse = max(np.arange(-MAX_SKEW, MAX_SKEW + 0.1, 0.5), key=lambda d: (sharpness(float(d)), -abs(d)))
    fine = max(coarse + np.arange(-0.5, 0.51, 0.1), key=lambda d: (sharpness(float(d)), -abs(d)))
    best = float(np.clip(fine, -MAX_SKEW - 0.3, MAX_SKEW + 0.3))
    if abs(best) < 0.15 or sharpness(best) < 1.15 * sharpness(0.0):
        return 0.0
    return -best


def _turn(shape: tuple[int, int], degrees: float) -> tuple[np.ndarray, tuple[int, int]]:
    """The turn about the middle that keeps the corners, and the size it needs."""
    height, width = shape
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    cosine, sine = abs(turn[0, 0]), abs(turn[0, 1])
    size = (int(width * cosine + height * sine) + 1, int(width * sine + height * cosine) + 1)
    turn[0, 2] += (size[0] - width) / 2
    turn[1, 2] += (size[1] - height) / 2
    return turn, size
