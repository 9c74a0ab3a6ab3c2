"""What a GPU wants while a model is held: wired memory, a bounded buffer cache. Nothing on a CPU.

On Metal memory that isn't wired may be paged out between steps, and a model near the limit then gets many times slower;
mlx-lm's generation and server set the same limit. The calls lie here alone, so that tests can watch them.
"""

from __future__ import annotations

import mlx.core as mx

_CACHED_SHARE = 16  # freed buffers may keep 1/16 of the working set for reuse
_LEAST_CACHED = 256 * 2**20
_TIDY_EVERY = 256  # decode steps


def on_gpu() -> bool:
    return bool(mx.default_device().type == mx.DeviceType.gpu)


def working_set() -> int:
    """Bytes that the device recommends to stay within; 0 where it doesn't say."""
    return int(mx.device_info().get("max_recommended_working_set_size") or 0)


def hold() -> None:
    """A model is loaded: wire what Metal may wire, and bound MLX's cache of freed buffers."""
    if not on_gpu():
        return
    size = working_set()
    if mx.metal.is_available() and size:
        mx.set_wired_limit(size)
    if size:
        mx.set_cache_limit(max(_LEAST_CACHED, size // _CACHED_SHARE))


def let_go() -> None:
    """The model is freed: nothing stays wired."""
    if on_gpu() and mx.metal.is_available():
        mx.set_wired_limit(0)


def tidy(steps: int) -> None:
    """Give freed buffers back now and then: a long answer leaves one of every size that its KV has had."""
    if steps % _TIDY_EVERY == 0 and on_gpu():
        mx.clear_cache()
