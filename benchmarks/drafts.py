"""What drafts save: the same answers with and without them, in turns on one engine.

    python -m benchmarks.drafts [--only again eight nothing drafter steps] [--json]

The model is the benchmarks' random one, pointed at one answer of 200 tokens where an answer has to come again.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omlx_jupyter.models.blas import preload_openblas

preload_openblas()

from omlx_jupyter import Engine, Message, SamplingParams  # noqa: E402
from omlx_jupyter.cache.prefix_cache import CacheSettings  # noqa: E402
from omlx_jupyter.chat.pages import read_picture  # noqa: E402
from omlx_jupyter.images.source import open_images  # noqa: E402
from tests.chat.test_hints import pdf  # noqa: E402

from .model import make, make_random_drafter, make_saying, make_with_drafter  # noqa: E402
from .pairs import Pair, alternate  # noqa: E402

ANSWER = 200
AIMS = {
    "again, 200 tokens before": 0.10,
    "again, 1,500 tokens before": 0.20,
    "again, new kernel": 0.10,
    "one word of the question changed": 0.35,
    "eight rows": 1 / 1.5,
    "nothing to draft from": 1 / 0.97,
    "drafter that is right about four": 1.0,
    "the same, eight rows": 1.0,
    "drafter that is never right": 1.03,
}


def question(tokens: int, seed: int = 0, last: str = "?") -> list[Message]:
    """About so many tokens: the vocabulary is bytes."""
    rng = random.Random(seed)
    return [Message("user", ["".join(rng.choice("abcdefgh ") for _ in range(tokens - 20)) + last])]


def greedy(tokens: int = ANSWER, **options: Any) -> SamplingParams:
    return SamplingParams(**{"temperature": 0, "max_tokens": tokens, **options})


def once(engine: Any, messages: list[Message], draft: bool, sampling: SamplingParams, note: dict[str, Any]) -> float:
    """Seconds from the first token on; the whole answer where drafts may have begun with it."""
    found = engine.submit(messages, sampling=sampling, draft=draft).result(600)
    note["drafts" if draft else "plain"] = found.token_ids
    if draft:
        note["steps"], note["tokens"] = found.usage.steps, len(found.token_ids)
    return float(found.usage.total_s - found.usage.prepare_s)


def against(engine: Any, messages: list[Message], sampling: SamplingParams) -> tuple[Pair, dict[str, Any]]:
    note: dict[str, Any] = {}
    pair = alternate(
        lambda: once(engine, messages, True, sampling, note), lambda: once(engine, messages, False, sampling, note)
    )
    assert note["drafts"] == note["plain"], "the tokens differ"
    return pair, note


def again() -> dict[str, Any]:
    made, folder = {}, Path(tempfile.mkdtemp(prefix="omlx-bench-drafts-"))
    path, cache = make_saying(ANSWER), CacheSettings(2**30, 2**31, folder)
    try:
        with Engine.load(path, cache=cache) as engine:
            for before in (200, 1500):
                made[f"again, {before:,} tokens before"] = against(engine, question(before), greedy())
            engine.generate(question(200, 7), sampling=greedy())
            old = question(200, 7)
            made["one word of the question changed"] = edited(engine, old)
        made["again, new kernel"] = new_kernel(path, cache)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return made


def edited(engine: Any, old: list[Message]) -> tuple[Pair, dict[str, Any]]:
    """Each time with another word at the end; the answer that was given to the old question comes again."""
    note: dict[str, Any] = {}
    numbers = iter(range(1000))

    def ask(draft: bool) -> float:
        text = str(old[0].parts[0])[:-6] + f"w{next(numbers)} ?"
        return once(engine, [Message("user", [text])], draft, greedy(), note)

    pair = alternate(lambda: ask(True), lambda: ask(False))
    assert note["drafts"] == note["plain"], "the tokens differ"
    return pair, note


def new_kernel(path: Path, cache: CacheSettings) -> tuple[Pair, dict[str, Any]]:
    note: dict[str, Any] = {}

    def ask(draft: bool) -> float:
        with Engine.load(path, cache=cache) as engine:
            engine.generate("warm", sampling=greedy(2))
            return once(engine, question(200), draft, greedy(), note)

    return alternate(lambda: ask(True), lambda: ask(False)), note


def eight() -> dict[str, Any]:
    """Eight rows that all have an earlier answer, against eight without."""
    note: dict[str, Any] = {}
    with Engine.load(make_saying(ANSWER), cache=CacheSettings(2**30)) as engine:
        asked = [question(200, 20 + i) for i in range(8)]

        def ask(draft: bool) -> float:
            handles = [engine.submit(messages, sampling=greedy(), draft=draft) for messages in asked]
            found = [handle.result(600) for handle in handles]
            assert all(len(f.token_ids) == ANSWER for f in found)
            if draft:
                note["steps"], note["tokens"] = max(f.usage.steps for f in found), ANSWER
            return max(float(f.usage.total_s) for f in found)

        return {"eight rows": (alternate(lambda: ask(True), lambda: ask(False)), note)}


def nothing() -> dict[str, Any]:
    """A sampled answer of a random model: it was never said before, and repeats nothing."""
    note: dict[str, Any] = {}
    seeds = iter(range(100_000))
    with Engine.load(make(), cache=CacheSettings(0)) as engine:

        def ask(draft: bool) -> float:
            options = greedy(150, temperature=1.0, seed=next(seeds) // 2)
            return once(engine, question(300), draft, options, note)

        return {"nothing to draft from": (alternate(lambda: ask(True), lambda: ask(False), 9), note)}


def drafter() -> dict[str, Any]:
    """A drafter model alone, against none: other sources know nothing."""
    made, note = {}, dict[str, Any]()
    target, right = make_with_drafter(ANSWER)
    with Engine.load(target, cache=CacheSettings(0), drafter=right) as engine:
        asked = [question(200, 60 + i) for i in range(8)]

        def ask(draft: bool, rows: int, note: dict[str, Any]) -> float:
            engine._loop._runner.drafting.others.texts.clear()
            handles = [engine.submit(messages, sampling=greedy(), draft=draft) for messages in asked[:rows]]
            found = [handle.result(600) for handle in handles]
            assert all(len(f.token_ids) == ANSWER for f in found)
            if draft:
                note["steps"], note["tokens"] = max(f.usage.steps for f in found), ANSWER
            return max(float(f.usage.total_s) for f in found)

        for name, rows in (("drafter that is right about four", 1), ("the same, eight rows", 8)):
            counted = dict[str, Any]()
            pair = alternate(lambda n=rows, c=counted: ask(True, n, c), lambda n=rows, c=counted: ask(False, n, c))
            made[name] = pair, counted
    seeds, target = iter(range(100_000)), make()
    with Engine.load(target, cache=CacheSettings(0), drafter=make_random_drafter(target)) as engine:

        def sampled(draft: bool) -> float:
            options = greedy(150, temperature=1.0, seed=next(seeds) // 2)
            return once(engine, question(300), draft, options, note)

        made["drafter that is never right"] = alternate(lambda: sampled(True), lambda: sampled(False), 9), note
    return made


FORM = {
    "type": "object",
    "properties": {
        "invoice_number": {"type": "integer", "minimum": 0, "maximum": 99999},
        "total_with_tax": {"type": "integer", "minimum": 0, "maximum": 99999},
        "already_paid": {"type": "boolean"},
        "currency_code": {"enum": ["EUR", "USD", "NOK"]},
    },
    "required": ["invoice_number", "total_with_tax", "already_paid", "currency_code"],
    "additionalProperties": False,
}


def tokens_a_step() -> dict[str, float]:
    """Tokens a decode step where each answer is new: forms of one schema from the fifth on, pages with a text layer."""
    made = {}
    folder = make()
    with Engine.load(folder, cache=CacheSettings(0)) as engine:
        options = {"json_schema": FORM, "max_tokens": 200, "logit_bias": without_blanks(folder)}
        found = [engine.generate(question(120, 50 + i), sampling=SamplingParams(seed=i, **options)) for i in range(30)]
        assert all(json.loads(f.text) for f in found)
        made["JSON of 30 forms, from the fifth on"] = rate_of(found[4:])
    rng = random.Random(4)
    words = ["invoice", "paint", "brushes", "harbour", "total", "boxes", "seven", "received", "paid", "in", "full"]
    with Engine.load(cache=CacheSettings(0)) as engine, tempfile.TemporaryDirectory() as folder:
        read = []
        for number in range(20):
            lines = [" ".join(rng.choice(words) for _ in range(6)).capitalize() for _ in range(12)]
            path = Path(folder) / f"{number}.pdf"
            path.write_bytes(pdf(lines))
            read.append(read_picture(engine, open_images(str(path))).result(600))
        made["20 PDF pages with a text layer"] = rate_of(read)
    return made


def without_blanks(folder: Path) -> dict[int, float]:
    """A random model says blanks between the parts of a form for ever; models that know JSON don't."""
    names = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    return {names[blank]: -1e9 for blank in "ĠĊĉč"}


def rate_of(found: list[Any]) -> float:
    return sum(f.usage.completion_tokens for f in found) / sum(f.usage.steps for f in found)


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "again": again,
    "eight": eight,
    "nothing": nothing,
    "drafter": drafter,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=[*PARTS, "steps"], default=[*PARTS, "steps"])
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    found: dict[str, Any] = {}
    for name in asked.only:
        found |= PARTS[name]() if name in PARTS else {}
    rates = tokens_a_step() if "steps" in asked.only else {}
    for name, rate in rates.items():
        print(f"{name}: {rate:.1f} tokens a step")
    print("| case | time with drafts / without | aim | steps | tokens |\n|---|---|---|---|---|")
    for name, (pair, note) in found.items():
        spread = f"{pair.ratio:.2f} ({pair.low:.2f} to {pair.high:.2f})"
        print(f"| {name} | {spread} | {AIMS[name]:.2f} | {note.get('steps', '')} | {note.get('tokens', '')} |")
    if asked.json:
        parts = {
            name: {**asdict(pair), **{k: note[k] for k in ("steps", "tokens")}} for name, (pair, note) in found.items()
        }
        parts |= {name: {"tokens a step": rate} for name, rate in rates.items()}
        asked.json.write_text(json.dumps(parts, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
