"""What others reach with the same weights: mlx-vlm's and mlx-lm's batch generators, a bare forward loop."""

from __future__ import annotations

import time
from functools import cached_property
from pathlib import Path
from typing import Any

import mlx.core as mx


class MlxVlm:
    """mlx-vlm's BatchGenerator, and its model in a bare loop."""

    def __init__(self, path: Path, prompt: str) -> None:
        import mlx_vlm

        self.model, self.processor = mlx_vlm.load(str(path))
        self.ids = self.processor.tokenizer.encode(prompt)

    def rate(self, rows: int, tokens: int) -> float:
        """Tokens per second while all rows decode."""
        from mlx_vlm.generate.ar import BatchGenerator

        generator = BatchGenerator(self.model.language_model, self.processor, max_tokens=tokens, stop_tokens=set())
        embeds = self.model.get_input_embeddings(mx.array([self.ids]), None).inputs_embeds
        generator.insert([self.ids] * rows, max_tokens=tokens, prompt_kwargs=[{"inputs_embeds": embeds}] * rows)
        made, start = 0, 0.0
        while made < rows * tokens:
            _, responses = generator.next()
            if len(responses) == rows and not start:
                start = time.perf_counter()
                continue
            made += len(responses) if start else 0
            if start and not responses:
                break
        return made / (time.perf_counter() - start)

    def bare(self, tokens: int) -> float:
        """Tokens per second of one row: forward, argmax, async_eval, nothing else."""
        from mlx_vlm.models.cache import make_prompt_cache

        model, ids = self.model.language_model, self.ids
        caches = make_prompt_cache(model)
        positions = mx.broadcast_to(mx.arange(len(ids))[None, None], (3, 1, len(ids)))
        token = mx.argmax(model(mx.array([ids]), cache=caches, position_ids=positions).logits[:, -1], axis=-1)
        mx.eval(token)
        start = time.perf_counter()
        for step in range(tokens):
            position = mx.full((3, 1, 1), len(ids) + step)
            following = mx.argmax(model(token[:, None], cache=caches, position_ids=position).logits[:, -1], axis=-1)
            mx.async_eval(following)
            token.item()
            token = following
        return tokens / (time.perf_counter() - start)


class MlxLm:
    """mlx-lm's BatchGenerator."""

    def __init__(self, path: Path, prompt: str) -> None:
        self._path, self._prompt = path, prompt

    @cached_property
    def _loaded(self) -> tuple[Any, list[int]]:
        import mlx_lm

        model, tokenizer = mlx_lm.load(str(self._path))[:2]
        return model, tokenizer.encode(self._prompt)

    def rate(self, rows: int, tokens: int) -> float:
        """Tokens per second while all rows decode."""
        from mlx_lm.generate import BatchGenerator

        model, ids = self._loaded
        generator = BatchGenerator(model, max_tokens=tokens, stop_tokens=[])
        generator.insert([ids] * rows, max_tokens=[tokens] * rows)
        made, start = 0, 0.0
        while True:
            _, responses = generator.next()
            if len(responses) == rows and not start:
                start = time.perf_counter()
                continue
            made += len(responses) if start else 0
            if start and not responses:
                break
        generator.close()
        return made / (time.perf_counter() - start)
