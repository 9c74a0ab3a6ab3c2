"""RGB page -> upright map of ink: how far each pixel lies from its surroundings, whatever their colour."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

STROKE = 17  # px; a stroke is narrower, a background wider
_FAINTEST = 24  # levels of 255 from the background
_SHARE = 0.35  # of the strongest ink nearby
MAX_SKEW = 5.0  # degrees
_POINTS = 20_000  # of ink that the skew is measured on


@dataclass(frozen=True)
class InkMap:
    """`ink` and `mask` are (h, w) uint8 and bool. `back` (2, 3) turns (x, y) here into the page's pixels."""

    ink: np.ndarray
    mask: np.ndarray
    back: np.ndarray
    skew: float


def upright_ink(rgb: np.ndarray, factor: float = 1.0) -> InkMap:
    """The ink of a (H, W, 3) uint8 page, turned upright, at `factor` of its size."""
    if factor != 1:
        size = (max(1, round(rgb.shape[1] * factor)), max(1, round(rgb.shape[0] * factor)))
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    noise = _noise(rgb)
    if noise > 2.5:
        rgb = cv2.GaussianBlur(rgb, (3, 3), 0)
    ink = _ink(rgb)
    least = max(_FAINTEST, 2.5 * noise)
    mask = _strong(ink, least)
    skew = _skew(mask)
    back = np.eye(2, 3)
    if skew:
        turn, size = _turn(ink.shape, skew)
        # The page is turned, not its ink: a bar's slanted edges would leave remnants.
        ink = _ink(cv2.warpAffine(rgb, turn, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE))
        mask = _strong(ink, least)
        back = cv2.invertAffineTransform(turn)
    return InkMap(ink, mask, back / factor, skew)


def _noise(rgb: np.ndarray) -> float:
    """Standard deviation of the grain, in levels; 0 for what a screen shows."""
    grey = rgb[::2, :, 1].astype(np.int16)
    if grey.shape[1] < 3:
        return 0.0
    second = np.abs(2 * grey[:, 1:-1] - grey[:, :-2] - grey[:, 2:])
    return float(np.median(second)) * 1.4826 / 6**0.5


def _ink(rgb: np.ndarray) -> np.ndarray:
    """Closing takes away narrow dark things, opening narrow light ones; what they took is ink.

    Which of the two is ink is what fewer pixels near an edge are: letters fill less than their surroundings.
    """
    window = np.ones((STROKE, STROKE), np.uint8)
    light, dark = cv2.dilate(rgb, window), cv2.erode(rgb, window)
    below = _largest(cv2.subtract(cv2.erode(light, window), rgb))
    above = _largest(cv2.subtract(rgb, cv2.dilate(dark, window)))
    grey, high, low = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (rgb, light, dark))
    edge = cv2.subtract(high, low) > _FAINTEST
    nearer_dark = cv2.subtract(high, grey) > cv2.subtract(grey, low)
    vote = np.where(edge, np.where(nearer_dark, np.float32(1), np.float32(-1)), np.float32(0))
    vote = cv2.blur(vote, (65, 25), borderType=cv2.BORDER_CONSTANT)
    return np.where(vote > 0, above, below)


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
    return ink > limit


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
        rows = np.rint(y + x * np.tan(np.radians(degrees))).astype(np.int64)
        profile = np.bincount(rows - rows.min()).astype(np.float64)
        return float((np.diff(profile) ** 2).sum())

    coarse = max(np.arange(-MAX_SKEW, MAX_SKEW + 0.1, 0.5), key=lambda d: (sharpness(float(d)), -abs(d)))
    fine = max(coarse + np.arange(-0.5, 0.51, 0.1), key=lambda d: (sharpness(float(d)), -abs(d)))
    best = float(np.clip(fine, -MAX_SKEW - 0.3, MAX_SKEW + 0.3))
    if abs(best) < 0.15 or sharpness(best) < 1.15 * sharpness(0.0):
        return 0.0
    return -best


def _turn(shape: tuple[int, ...], degrees: float) -> tuple[np.ndarray, tuple[int, int]]:
    """The turn about the middle that keeps the corners, and the size it needs."""
    height, width = shape
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    cosine, sine = abs(turn[0, 0]), abs(turn[0, 1])
    size = (int(width * cosine + height * sine) + 1, int(width * sine + height * cosine) + 1)
    turn[:, 2] += (size[0] - width) / 2, (size[1] - height) / 2
    return turn, size
