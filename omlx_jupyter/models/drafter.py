"""A drafter model: a small network that reads a target's hidden states and says what its next tokens may be.

mlx-vlm's DFlash drafters: all their state lies in the cache that they are given, and that takes only tokens which
stand. So rows have one each over shared weights and come and go as they like; a refused draft leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import numpy as np

from ..errors import ModelError
from .detect import Checkpoint, inspect_checkpoint
from .memory import RowCost
from .row_proof import plain_positions, vocabulary
from .taps import Taps
from .trust import gate
from .weights import weights_of

if TYPE_CHECKING:
    from .loaded import LoadedModel
    from .shapes import DrafterConfig, DraftModel

MOST_WAITING = 256  # tokens whose hidden states a row keeps unread; of more the older are forgotten


@dataclass
class Heard:
    """What one row's drafter knows: keys and values of the tokens it has read, and hidden states that it hasn't.

    It may begin anywhere: before a prompt that was restored there is nothing to read.
    """

    cache: list[Any]
    waiting: list[mx.array] = field(default_factory=list)  # (1, n, width) each
    tokens: int = 0  # that wait; a draft needs one

    @property
    def nbytes(self) -> int:
        held = [part.keys.nbytes + part.values.nbytes for part in self.cache if part.keys is not None]
        return int(sum(held) + sum(hidden.nbytes for hidden in self.waiting))


class Drafter:
    """Engine thread only."""

    def __init__(self, name: str, model: DraftModel, target: LoadedModel) -> None:
        """`model` is mlx-vlm's; it borrows the target's embedding and final projection.

        :raises ModelError: it was made for another model, or its weights are damaged.
        """
        self.name = name
        self.nbytes = sum(value.nbytes for value in weights_of(model))  # before it borrows
        config = model.config
        _refuse_other_target(name, config, target)
        self._model = model.bind(target.language_model)
        self._ids = [int(layer) for layer in config.target_layer_ids]
        self._mask = int(config.mask_token_id)
        self.widest = int(config.block_size) - 1
        each = 2 * config.num_key_value_heads * config.head_dim * config.num_hidden_layers
        size = 2 if target.dtype in ("bfloat16", "float16") else 4
        self._token_bytes = each * size  # of keys and values
        self._width = len(self._ids) * config.hidden_size  # of a token's hidden states
        self._hidden_bytes = self._width * size
        self._try(vocabulary(target.checkpoint.config))
        self.nbytes += sum(int(value.nbytes) for value in model.values() if isinstance(value, mx.array))  # copied there
        self.taps = Taps(target.language_model.layers, self._ids)
        self._listen(target)

    def _listen(self, target: LoadedModel) -> None:
        """To one token: a family that calls its layers in a way of its own shows at once."""
        self.taps.open()
        try:
            target.forward(mx.array([[0]]), target.new_cache(), None, plain_positions(target, [[0]]))
            hidden = self.taps.close()
        finally:
            self.taps.close()
        if hidden is None or hidden.shape != (1, 1, self._width):
            raise ModelError(f"{target.name} calls its layers in a way of its own, so that no drafter can hear them")

    def _try(self, vocabulary: int) -> None:
        """One draft of nothing: shapes and damaged weights show at once."""
        heard = self.hear()
        self.take(heard, mx.ones((1, 3, self._width)))
        logits = self._model(self._block(0, self.widest), self._read(heard), heard.cache)
        if logits.shape != (1, self.widest + 1, vocabulary) or not bool(mx.all(mx.isfinite(logits))):
            raise ModelError(f"the drafter {self.name} gives no usable logits; its weights are damaged, get them again")

    def beside(self, cost: RowCost) -> RowCost:
        """What a row of the target costs with its drafter's keys, values and hidden states."""
        fixed = cost.fixed + MOST_WAITING * (self._hidden_bytes + self._token_bytes)
        return replace(cost, token=cost.token + self._token_bytes, fixed=fixed)

    def hear(self) -> Heard:
        """A row's state, which knows nothing."""
        return Heard(self._model.make_cache())

    def take(self, heard: Heard, hidden: mx.array) -> None:
        """The next tokens' hidden states, (1, n, width), in the order of the row's tokens."""
        heard.waiting.append(hidden)
        heard.tokens += int(hidden.shape[1])
        if heard.tokens > MOST_WAITING + hidden.shape[1]:  # nobody drafts: begin anew, with the newest
            kept = mx.concatenate(heard.waiting, axis=1)[:, -MOST_WAITING:]
            heard.cache, heard.waiting, heard.tokens = self._model.make_cache(), [kept], MOST_WAITING

    def read(self, heard: Heard) -> None:
        """Read what waits but the last, so that hidden states needn't be kept: a prompt's, chunk by chunk."""
        if heard.tokens > 1:
            hidden = self._read(heard)
            self._model(self._block(0, 0), hidden[:, :-1], heard.cache)  # only its cache is evaluated
            heard.waiting, heard.tokens = [mx.contiguous(hidden[:, -1:])], 1
            mx.eval(heard.waiting, [part.state for part in heard.cache])

    def draft(self, asked: Sequence[tuple[Heard, int, int]]) -> list[list[int]]:
        """The tokens that may follow, for each (state, last token, how many): each row by itself, read together."""
        made = []
        for heard, last, count in asked:
            logits = self._model(self._block(last, count), self._read(heard), heard.cache)
            made.append(mx.argmax(logits[0, 1:], axis=-1))
        mx.eval(made, [[part.state for part in heard.cache] for heard, _, _ in asked])
        return [[int(token) for token in np.array(tokens)] for tokens in made]

    def _read(self, heard: Heard) -> mx.array:
        """What waits, (1, n, width)."""
        hidden = heard.waiting[0] if len(heard.waiting) == 1 else mx.concatenate(heard.waiting, axis=1)
        heard.waiting, heard.tokens = [], 0
        return hidden

    def _block(self, last: int, count: int) -> mx.array:
        return mx.array([[last, *[self._mask] * count]], mx.int32)


def load_drafter(name: str, path: Path, target: LoadedModel, trust_code: bool = False) -> Drafter:
    """The drafter in a folder, bound to a loaded target whose rows can forget a refused draft.

    :raises ModelError: a clause that says why it can't serve: another kind, another target, damaged, or the target's
        rows can't forget. The target is as it was.
    """
    rows = target.rows
    if rows is None or not rows.grouping.handles:
        raise ModelError(f"{target.name} takes no drafts: a refused one couldn't be forgotten")
    checkpoint = inspect_checkpoint(path, trust_code)
    model = _load(name, checkpoint, trust_code)
    try:
        return Drafter(name, model, target)
    except ModelError:
        raise
    except Exception as error:  # whatever its config made of it
        raise ModelError(f"the drafter {name} can't be used ({type(error).__name__}: {error})") from error


def _load(name: str, checkpoint: Checkpoint, trust_code: bool) -> Any:
    from mlx_vlm.speculative import drafters

    try:
        with gate(checkpoint.path, trust_code) as opened:
            try:
                model, kind = drafters.load_drafter(str(opened.view))
            finally:
                opened.close()
    except Exception as error:
        told = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        raise ModelError(f"the drafter {name} can't be loaded ({told}); a file of it is missing or damaged") from error
    if type(model) is not drafters.DFlashDraftModel:
        raise ModelError(f"{name} is {kind if kind != 'dflash' else type(model).__name__}, not a plain DFlash drafter")
    return model


def _refuse_other_target(name: str, config: DrafterConfig, target: LoadedModel) -> None:
    text = target.checkpoint.config.get("text_config") or target.checkpoint.config
    layers = len(target.language_model.layers)
    for what, mine, theirs in (
        ("hidden size", config.hidden_size, int(text.get("hidden_size") or target.checkpoint.config["hidden_size"])),
        ("vocabulary", config.vocab_size, vocabulary(target.checkpoint.config)),
        ("layers", config.num_target_layers, layers),
    ):
        if mine != theirs:
            raise ModelError(
                f"the drafter {name} was made for another model: its {what} is {mine:,}, {target.name}'s is {theirs:,}"
            )
    if not config.target_layer_ids or not all(0 <= layer < layers for layer in config.target_layer_ids):
        raise ModelError(f"the drafter {name} reads layers that {target.name} doesn't have")
    if not 0 <= config.mask_token_id < config.vocab_size or config.block_size < 2:
        raise ModelError(f"the drafter {name} has a damaged config.json; get it again")
