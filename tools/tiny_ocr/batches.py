"""The curriculum: which pictures and prompts a training step sees at each level."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np

from . import render
from .config import CELL, END, OCR_PROMPT, PATCH, encode, token_id
from .model import Layout
from .pieces import PIECE_HEIGHT, make_piece, nothing
from .text import line_text, training_text


@dataclass(frozen=True)
class Level:
    """Ranges of one curriculum level; sizes in pixels, widened by multiples of the cell."""

    width: tuple[int, int]
    height: tuple[int, int]
    lines: tuple[int, int]
    smallest: int
    passes_at: float  # running teacher-forced accuracy that opens the next level
    free_prompts: float = 0.0
    two_pictures: float = 0.0
    questions: float = 0.0
    pieces: bool = False  # single lines as the reading recipe cuts them


LEVELS = (
    Level((96, 160), (32, 32), (1, 1), 14, 0.85),
    Level((128, 256), (32, 32), (1, 1), 12, 0.88),
    Level((160, 320), (32, 64), (1, 2), 12, 0.85, 0.2),
    Level((192, 384), (32, 112), (1, 3), 11, 0.85, 0.3, 0.1),
    Level((192, 448), (32, 160), (1, 4), 10, 0.85, 0.3, 0.15, 0.1),
    Level((192, 576), (32, 224), (1, 6), 10, 0.85, 0.3, 0.15, 0.12),
    Level((32, 800), (PIECE_HEIGHT, PIECE_HEIGHT), (1, 1), 10, 2.0, pieces=True),
)
PATCHES_PER_STEP = 7000
MOST_PICTURES = 64

ASKS = (
    "What does it say?",
    "Read the text.",
    "Read this.",
    "What is written here?",
    "Please read the text in this picture.",
    "Transcribe the image.",
    "What text is in the image?",
    "OCR this picture.",
    "Please transcribe everything you see.",
    "What can you read?",
    "Read it out, please.",
    "Give me the text.",
    "Copy the text exactly.",
    "Extract the text.",
    "What do these say?",
    "Read both pictures.",
    "What is on this image?",
    "Convert the document to markdown.",
    "Show me what is written.",
    "Text?",
)
QUESTIONS = {
    "first": ("What is the first line?", "Read the first line.", "First line only."),
    "last": ("What is the last line?", "Read the last line.", "Last line only."),
    "count": ("How many lines are there?", "How many lines of text?", "Count the lines."),
}
USER, ASSISTANT = token_id("<|user|>"), token_id("<|assistant|>")
BEGIN, FINISH = token_id("<|begin_of_image|>"), token_id("<|end_of_image|>")


@dataclass
class Batch:
    pixels: np.ndarray  # (B * images, H, W) uint8 grey
    layout: Layout
    answers: np.ndarray  # (B, T) ids that end with END; -100 beyond
    cells: np.ndarray  # (B, T) absolute index of each character's cell, or -1
    slots: np.ndarray  # (B * images, cells, SLOTS)
    lines: np.ndarray  # (B * images, cells, 2)
    level: int


def _prompt(r: random.Random, level: Level, images: int) -> tuple[list[list[int]], str]:
    """Token ids around the images and the kind of answer that they ask for."""
    kind = "read"
    if r.random() < level.questions and images == 1:
        kind = r.choice(tuple(QUESTIONS))
        words = r.choice(QUESTIONS[kind])
    elif r.random() < level.free_prompts:
        words = r.choice(ASKS)
        if r.random() < 0.25:
            words = f"{training_text(r, 8)[:20]} {words}"
    else:
        words = OCR_PROMPT
    before = words != OCR_PROMPT and r.random() < 0.3
    opening = [USER, *(encode(words + " ") if before else []), BEGIN]
    closing = [FINISH, *([] if before else encode(words)), ASSISTANT]
    between = [[FINISH, BEGIN] for _ in range(images - 1)]
    return [opening, *between, closing], kind


def _span(r: random.Random, bounds: tuple[int, int]) -> int:
    return r.randrange(bounds[0] // CELL, bounds[1] // CELL + 1) * CELL


def _answer(pictures: list[render.Picture], kind: str, layout: Layout) -> tuple[list[int], list[int]]:
    rows, columns = layout.grid
    ids: list[int] = []
    cells: list[int] = []
    for index, (picture, start) in enumerate(zip(pictures, layout.image_starts(), strict=True)):
        if kind == "count":
            ids, cells = encode(str(sum(map(bool, picture.lines)))), [-1]
            break
        if index and ids and picture.text:
            ids, cells = [*ids, *encode("\n")], [*cells, -1]
        wanted = {"first": 0, "last": len(picture.lines) - 1}.get(kind)
        text = picture.text if wanted is None else picture.lines[wanted]
        chosen = [p for p in picture.placed if wanted is None or (p is not None and p.line == wanted)]
        ids = [*ids, *encode(text)]
        for p in chosen:  # a character outside ASCII has two or three tokens, in the same cell
            cell, tokens = (-1, 1) if p is None else (start + render.cell_of(p, rows, columns), len(p.char.encode()))
            cells += [cell] * tokens
    return [*ids, END], [*cells, -1]


def _pictures(
    r: random.Random, level: Level, width: int, height: int, images: int, most_lines: int
) -> list[render.Picture]:
    train, weights, _ = render.fonts()
    made = []
    for _ in range(images):
        font = r.choices(train, weights)[0]
        if level.pieces:
            made.append(make_piece(r, width, font, line_text))
        elif r.random() < 0.01:
            made.append(nothing(r, width, height))
        else:
            lines = r.randint(min(level.lines[0], most_lines), most_lines)
            style = render.Style(smallest=level.smallest)
            made.append(render.make(r, width, height, lines, font, training_text, style))
    return made


def make_batch(seed: int, top: int, scale: int = 1, older: float = 0.34) -> Batch:
    """A deterministic batch at level `top`, or, in a share `older` of them, at one of the three before.

    `scale` multiplies the pictures in it: 1 suits two cores, 8 a GPU.
    """
    r, noise = random.Random(seed), np.random.default_rng(seed)
    index = top if top == 0 or r.random() >= older else r.randrange(max(0, top - 3), top)
    level = LEVELS[index]
    width, height = _span(r, level.width), _span(r, level.height)
    images = 2 if r.random() < level.two_pictures and width * height < 40_000 else 1
    most_lines = max(1, min(level.lines[1], (height - 2) // (level.smallest + 2)))
    prefix, kind = _prompt(r, level, images)
    layout = Layout(prefix, (height // CELL, width // CELL))
    size = max(4, min(MOST_PICTURES, PATCHES_PER_STEP * PATCH**2 // (width * height * images))) * scale
    pixels, answers, cells, slots, line_labels = [], [], [], [], []
    for _ in range(size):
        pictures = _pictures(r, level, width, height, images, most_lines)
        for picture in pictures:
            pixels.append(np.asarray(picture.image.convert("L")))
            labels = render.dense_labels(picture, *layout.grid)
            slots.append(labels[0])
            line_labels.append(labels[1])
        ids, where = _answer(pictures, kind, layout)
        answers.append(ids)
        cells.append(where)
    stack = np.stack(pixels)
    if not level.pieces:
        sigma = noise.uniform(0, 12, (len(stack), 1, 1)) * (noise.random((len(stack), 1, 1)) < 0.6)
        grain = noise.standard_normal(stack.shape, dtype=np.float32) * sigma
        stack = np.clip(np.rint(stack + grain), 0, 255).astype(np.uint8)
    longest = max(map(len, answers))
    return Batch(
        stack,
        layout,
        np.array([a + [-100] * (longest - len(a)) for a in answers]),
        np.array([c + [-1] * (longest - len(c)) for c in cells]),
        np.stack(slots).astype(np.int16),
        np.stack(line_labels).astype(np.int16),
        index,
    )
