"""What a child process does: answers to given prompts, or random requests until it is killed."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

from omlx_jupyter import Engine, ImagePart, Message, SamplingParams
from omlx_jupyter.cache.prefix_cache import CacheSettings
from omlx_jupyter.engine.scheduler import Limits

from ..checkpoints import deepseek
from ..conftest import noise_image

TOKENS = 12
GREEDY = SamplingParams(temperature=0, max_tokens=TOKENS)
WORDS = ("What is it? ", "Tell me about it. ", "And the other one? ", "Read it out. ", "Why so? ", "Go on. ")


def open_engine(checkpoint: Path, folder: Path | None, ram: int = 2**27, ssd: int = 2**28) -> Any:
    if checkpoint.name.startswith("deepseek"):
        deepseek.shrink()
    settings = CacheSettings(ram, ssd if folder else 0, folder)
    return Engine.load(checkpoint, limits=Limits(prove_s=float("inf")), cache=settings)


def prompt(number: int, sees: bool) -> list[Message]:
    """One of many prompts that share beginnings; the same number is the same prompt."""
    choose = random.Random(number % 4)
    parts: list[Any] = ["Be brief. " * choose.randint(1, 40)]
    if sees and number % 4:
        parts.append(ImagePart(noise_image(40 + 28 * (number % 3), 64, number % 4)))
    own = random.Random(number)
    parts += [own.choice(WORDS) for _ in range(own.randint(1, 12))]
    return [Message("user", parts)]


def answers(checkpoint: Path, folder: Path | None, numbers: list[int], **settings: int) -> list[tuple[list[int], int]]:
    """(tokens, cached tokens) of each prompt."""
    with open_engine(checkpoint, folder, **settings) as engine:
        made = [engine.generate(prompt(n, engine.sees), sampling=GREEDY) for n in numbers]
    return [(m.token_ids, m.usage.cached_tokens_ssd) for m in made]


def run_for_ever(checkpoint: Path, folder: Path, seed: int, prompts: int, ssd: int, started: Any) -> None:
    """Random requests, two or three at a time, until somebody kills the process."""
    choose = random.Random(seed)
    engine = open_engine(checkpoint, folder, ssd=ssd)
    started.set()
    while True:
        numbers = [choose.randrange(prompts) for _ in range(choose.randint(1, 3))]
        handles = [engine.submit(prompt(n, engine.sees), sampling=GREEDY) for n in numbers]
        for handle in handles:
            handle.result(60)


def run_some(checkpoint: Path, folder: Path, numbers: list[int], ssd: int, out: Any) -> None:
    try:
        out.put(answers(checkpoint, folder, numbers, ssd=ssd))
    except BaseException as error:
        out.put(error)
        sys.exit(1)
