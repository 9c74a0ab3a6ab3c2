"""A drafter model beside the text's drafts: the tokens of a run without it, a state a row, asked while it pays."""

from __future__ import annotations

import itertools
import json
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from omlx_jupyter import Engine, Message, SamplingParams
from omlx_jupyter.cache.prefix_cache import CacheSettings
from omlx_jupyter.engine.drafter import Balance
from omlx_jupyter.engine.drafts import Costs
from omlx_jupyter.engine.scheduler import Limits
from omlx_jupyter.errors import ModelError
from omlx_jupyter.models.loader import load_model
from omlx_jupyter.models.row_proof import plain_positions
from omlx_jupyter.models.taps import Taps

from ..checkpoints import dflash
from ..conftest import no_cache
from .test_drafting import OPTIONS, ask, prompt, sampling

PAIRS = ["qwen2_vl", "glm_ocr", "qwen2"]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return dflash.scripted_pair(tmp_path_factory.mktemp("scripted"))


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """The drafter is asked at each step that it may be, whatever it costs on this machine."""
    monkeypatch.setattr(Balance, "open", lambda self, rows: rows in self._costs.by_rows)
    monkeypatch.setattr(Balance, "worth_following", True)


def source(engine: Any) -> Any:
    return engine._loop._runner.drafting.drafter


def spoil(engine: Any) -> None:
    """Every third token that the drafter says is another one."""
    drafter, count = source(engine)._drafter, itertools.count()
    own = drafter.draft

    def draft(asked: Any) -> list[list[int]]:
        return [[token if next(count) % 3 else token ^ 1 for token in made] for made in own(asked)]

    drafter.draft = draft


def said(engine: Any, text: str, draft: bool = True, **options: Any) -> Any:
    wanted = SamplingParams(**{"temperature": 0, "max_tokens": 60, **options})
    return engine.submit(text, sampling=wanted, draft=draft).result(60)


# -- what it hears ------------------------------------------------------------------------------


@pytest.mark.parametrize("family", PAIRS)
def test_a_tap_hears_what_the_layer_puts_out(checkpoint: Callable[..., Path], family: str) -> None:
    """The last layer's output gives the logits of the same pass."""
    model = load_model(checkpoint(family))
    inner = model.language_model
    taps, both = Taps(inner.layers, [2]), Taps(inner.layers, [0, 2])
    ids = mx.array([[5, 6, 7, 8]])
    positions = plain_positions(model, [[0, 1, 2, 3]])
    silent = model.forward(ids, model.new_cache(), None, positions)
    taps.open()
    both.open()
    logits = model.forward(ids, model.new_cache(), None, positions)
    hidden, side_by_side = taps.close(), both.close()
    assert hidden is not None
    assert side_by_side is not None
    assert mx.array_equal(side_by_side[..., 64:], hidden)
    assert not mx.allclose(side_by_side[..., :64], hidden, atol=0.1)
    assert mx.array_equal(logits, silent)
    assert mx.allclose(inner.lm_head(inner.model.norm(hidden)), logits, atol=1e-5)
    taps.open()
    assert taps.close() is None  # no layer was called


@pytest.mark.parametrize("family", PAIRS)
@pytest.mark.usefixtures("always")
def test_it_drafts_as_if_it_had_read_the_row_at_once(
    checkpoint: Callable[..., Path], family: str, tmp_path: Path
) -> None:
    """Over chunks of prefill, plain steps, drafts right and wrong, joins and leaves; after a restore over the rest."""
    cache = CacheSettings(2**26)
    with Engine.load(checkpoint(family), cache=cache, drafter=dflash.random(tmp_path, checkpoint(family))) as engine:
        made = source(engine)._drafter
        own, seen = made.draft, []

        def draft(asked: Any) -> list[list[int]]:
            knows = [heard.cache[0].offset + heard.tokens for heard, _, _ in asked]
            found = own(asked)
            seen.extend((knew, last, tokens) for knew, (_, last, _), tokens in zip(knows, asked, found, strict=True))
            return found

        made.draft = draft
        asked = [prompt(family, seed=40 + i, words=50 + 30 * i) for i in range(3)]
        found = [
            handle.result(60)
            for handle in [engine.submit(m, sampling=sampling(engine, 20 + 9 * i)) for i, m in enumerate(asked)]
        ]
        first, seen[:] = list(seen), []
        edited = [Message("user", [*asked[2][0].parts[:-1], f"{asked[2][0].parts[-1]} and a little more"])]
        again = engine.submit(edited, sampling=sampling(engine, 20)).result(60)
        fresh = load_model(checkpoint(family), drafter=tmp_path)
    assert sum(len(tokens) for *_, tokens in first) > 20
    whole = [Whole(fresh, m, f.token_ids) for m, f in zip(asked, found, strict=True)]
    began = [f.usage.cached_tokens for f in found]
    for knew, last, tokens in first:
        assert any(row.drafts(begin, knew, last, tokens) for row, begin in zip(whole, began, strict=True))
    begin, restored = again.usage.cached_tokens, Whole(fresh, edited, again.token_ids)
    assert begin
    assert seen
    assert all(restored.drafts(begin, knew, last, tokens) for knew, last, tokens in seen)


class Whole:
    """A row whose hidden states are read in one pass."""

    def __init__(self, model: Any, messages: list[Message], answer: tuple[int, ...]) -> None:
        from omlx_jupyter.engine.prompt import preparation
        from omlx_jupyter.images.decoded import Limits as ImageLimits
        from omlx_jupyter.models.switches import PLAIN

        ready = preparation(model, messages, PLAIN, ImageLimits(), 4_000_000)()
        features = [model.encode_image(image) for image in ready.images]
        self._drafter, self._ids = model.drafter, [*ready.ids, *answer]
        positions = model.positions(ready)
        places = None
        if positions is not None:
            behind = mx.arange(len(ready.ids), len(self._ids)) + positions.delta
            places = mx.concatenate([mx.array(positions.ids), mx.broadcast_to(behind, (3, len(answer)))], axis=1)[
                :, None
            ]
        embeds = model.embed(ready, features)
        if embeds is not None:
            later = model.language_model.model.embed_tokens(mx.array([list(answer)]))
            embeds = mx.concatenate([embeds, later], axis=1)
        model.drafter.taps.open()
        model.forward(mx.array([self._ids]), model.new_cache(), embeds, places)
        self._hidden = model.drafter.taps.close()

    def drafts(self, begin: int, knew: int, last: int, tokens: list[int]) -> bool:
        """Whether these are the drafter's tokens behind `last`, `knew` tokens from `begin` on being known."""
        end = begin + knew
        if end >= len(self._ids) or self._ids[end] != last:
            return False
        heard = self._drafter.hear()
        heard.waiting, heard.tokens = [self._hidden[:, begin:end]], knew
        return bool(self._drafter.draft([(heard, last, len(tokens))])[0] == tokens)


# -- the same tokens ----------------------------------------------------------------------------


def test_a_right_drafter_saves_steps(pair: tuple[Path, Path], always: None) -> None:
    with Engine.load(pair[0], cache=no_cache(), drafter=pair[1]) as engine:
        assert (engine.warnings, engine.capabilities.drafter) == ((), True)
        plain, found = said(engine, "hello", draft=False), said(engine, "hello")
        assert found.token_ids == plain.token_ids
        assert (plain.usage.steps, found.usage.steps <= 16) == (42, True)
        assert found.usage.accepted == found.usage.accepted_from["drafter"] > 25
        assert found.usage.drafted <= found.usage.accepted + 4  # behind the end
        assert "tokens from the drafter" in found.usage.line()


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.usefixtures("always")
def test_answers_are_those_without_it(pair: tuple[Path, Path], name: str) -> None:
    options = OPTIONS[name]
    if name == "json":
        options = {"json_schema": {"type": "object", "properties": {"total": {"type": "integer"}}}}
    with Engine.load(pair[0], cache=no_cache(), drafter=pair[1]) as engine:
        spoil(engine)
        source(engine).source.right, drafts, wrong = 9.0, 0, False  # wide from the beginning
        for seed in range(3):
            more = {**options, **({"seed": seed} if "seed" in options else {})}
            plain, found = said(engine, f"hello {seed}", draft=False, **more), said(engine, f"hello {seed}", **more)
            assert (found.token_ids, found.text) == (plain.token_ids, plain.text)
            assert (found.finish_reason, plain.usage.drafted) == (plain.finish_reason, 0)
            for a, b in zip(found.logprobs or (), plain.logprobs or (), strict=True):
                assert a.logprob == pytest.approx(b.logprob, abs=1e-4)
            drafts += found.usage.accepted_from.get("drafter", 0)
            wrong |= found.usage.accepted < found.usage.drafted
        assert wrong
        assert drafts or name not in ("greedy", "logprobs")


def test_rows_come_and_go(pair: tuple[Path, Path], always: None) -> None:
    """Of many lengths, with stops and ends inside drafts, some without drafts, one cancelled in mid-answer."""
    with Engine.load(pair[0], cache=no_cache(), drafter=pair[1]) as engine:
        asked = [
            (f"ask {i}" * (1 + 9 * (i % 3)), {"max_tokens": 9 + 6 * i, "stop": (" w19",) if i % 4 == 3 else None})
            for i in range(7)
        ]
        plain = [said(engine, text, draft=False, **options) for text, options in asked]
        source(engine).source.right = 9.0  # wide drafts from the beginning
        spoil(engine)
        began = threading.Event()
        dropped = engine.submit("to be dropped", sampling=SamplingParams(temperature=1.0, max_tokens=4000))
        threading.Thread(target=lambda: (next(iter(dropped)), began.set())).start()
        handles = [
            engine.submit(text, sampling=SamplingParams(temperature=0, **options), draft=i != 2)
            for i, (text, options) in enumerate(asked)
        ]
        began.wait(60)
        dropped.cancel()
        found = [handle.result(60) for handle in handles]
        assert dropped.result(60).finish_reason == "cancelled"
        assert [f.token_ids for f in found] == [p.token_ids for p in plain]
        assert [f.text for f in found] == [p.text for p in plain]
        assert found[2].usage.drafted == 0
        assert sum(f.usage.accepted_from.get("drafter", 0) for f in found) > 20
        assert max(f.usage.peak_rows for f in found) > 2
        assert engine.stats().kv_bytes == 0


@pytest.mark.usefixtures("always")
def test_after_a_restore_from_ram_and_from_disk(pair: tuple[Path, Path], tmp_path: Path) -> None:
    settings = CacheSettings(2**26, 2**28, tmp_path / "cache")
    asked = "a longer question " * 12
    with Engine.load(pair[0], cache=settings, drafter=pair[1]) as engine:
        plain = said(engine, asked, draft=False, max_tokens=30)
        for text in (asked, asked + "?"):
            found = said(engine, text, max_tokens=30)
            assert found.usage.cached_tokens_ram
            assert found.token_ids == plain.token_ids
    with Engine.load(pair[0], cache=settings, drafter=pair[1]) as engine:
        found = said(engine, asked + "!", max_tokens=30)
        assert found.usage.cached_tokens_ssd
        assert found.token_ids == plain.token_ids


@pytest.mark.usefixtures("always")
def test_a_row_that_was_put_aside_drafts_again(pair: tuple[Path, Path]) -> None:
    with Engine.load(pair[0], cache=no_cache(), drafter=pair[1], limits=Limits(max_rows=1)) as engine:
        plain = said(engine, "hello", draft=False)
        drafting, held = engine._loop._runner.drafting, engine._loop._held
        own, sent, lasts = drafting.offered, threading.Event(), []

        def offered(rows: Any, tokens: Any) -> Any:
            if len(rows[0].request.answer.token_ids) > 5 and not lasts:
                lasts.append(rows[0])
                sent.wait(60)  # somebody waits for the other request
            return own(rows, tokens)

        drafting.offered = offered
        later = engine.submit("hello", sampling=SamplingParams(temperature=0, max_tokens=60)).in_background()
        now = engine.submit("hello, now", sampling=SamplingParams(temperature=0, max_tokens=8), draft=False)
        while held.figures()["preparing"]:
            time.sleep(0.001)
        sent.set()
        found = later.result(60)
        assert now.result(60).token_ids == plain.token_ids[:8]
        assert found.token_ids == plain.token_ids
        assert found.usage.accepted_from["drafter"] > 20
        assert found.usage.total_s > now.result().usage.total_s


# -- while it pays ------------------------------------------------------------------------------


@pytest.mark.parametrize("costs", [0.0005, 0.01, 0.2])
def test_a_drafter_that_is_never_right_costs_little(costs: float) -> None:
    """By its own measure no more than three in a hundred over a few thousand steps, and it is tried again."""
    measured = Costs()
    balance, step = Balance(measured), 0.01
    spent, asked = 0.0, []
    for number in range(4000):
        if balance.open(1):
            balance.with_it(1, 1, step + costs)
            spent, asked = spent + costs, [*asked, number]
        else:
            measured.narrow(1, step)
            balance.measured()
            balance.without(1, step)
    assert spent <= 0.03 * 4000 * step + costs
    assert asked[-1] > 2000


def test_a_drafter_that_pays_is_always_asked_and_measured_anew() -> None:
    measured = Costs()
    balance, asked = Balance(measured), 0
    assert not balance.open(1)  # nothing to compare with
    for _ in range(1000):
        if balance.open(1):
            balance.with_it(1, 3, 0.02)
            asked += 1
        else:
            measured.narrow(1, 0.01)
            balance.measured()
            balance.without(1, 0.01)
    assert 950 < asked < 1000
    for _ in range(100):
        if balance.open(1):
            balance.with_it(1, 1, 0.02)
    assert balance.seconds <= 0  # what it saved long ago doesn't pay for long
    assert not balance.open(1)
    assert not balance.open(2)


def test_answers_without_drafts_earn_nothing(pair: tuple[Path, Path]) -> None:
    with Engine.load(pair[0], cache=no_cache(), drafter=pair[1]) as engine:
        said(engine, "hello", draft=False)
        assert source(engine).balance.seconds == 0
        assert source(engine)._costs.by_rows


# -- where it fails -----------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["draft", "take", "read"])
@pytest.mark.usefixtures("always")
def test_a_drafter_that_fails_is_switched_off(pair: tuple[Path, Path], place: str) -> None:
    with Engine.load(pair[0], cache=no_cache(), drafter=pair[1]) as engine:
        plain = said(engine, "hello", draft=False)

        def fails(*_: Any) -> None:
            raise RuntimeError("no more")

        setattr(source(engine)._drafter, place, fails)
        found = said(engine, "hello")
        assert found.token_ids == plain.token_ids
        assert found.notes == (source(engine).why,)
        assert "failed (RuntimeError: no more) and was switched off" in found.notes[0]
        able = engine.capabilities
        assert (able.drafter, able.why["drafter"]) == (False, found.notes[0])
        again = said(engine, "hello there")
        assert (again.token_ids, again.notes) == (plain.token_ids, ())
        assert engine.stats().faults.batches == 0


def damaged(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-40])


def no_layer(folder: Path) -> None:
    weights = dict(mx.load(str(folder / "model.safetensors")))
    mx.save_safetensors(str(folder / "model.safetensors"), {k: v for k, v in weights.items() if "layers.1" not in k})


def not_a_number(folder: Path) -> None:
    weights = dict(mx.load(str(folder / "model.safetensors")))
    weights["fc.weight"] = weights["fc.weight"] * float("nan")
    mx.save_safetensors(str(folder / "model.safetensors"), weights)


def set_to(**values: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config["dflash_config"] |= {k: v for k, v in values.items() if k in config["dflash_config"]}
        config |= {k: v for k, v in values.items() if k not in config["dflash_config"]}
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")

    return change


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (damaged, "is damaged or cut short"),
        (no_layer, "can't be loaded"),
        (not_a_number, "weights are damaged"),
        (set_to(vocab_size=400), "made for another model: its vocabulary is 400, .* is 320"),
        (set_to(num_target_layers=9), "made for another model: its layers is 9"),
        (set_to(target_layer_ids=[0, 7]), "reads layers that"),
        (set_to(mask_token_id=99999), "damaged config"),
        (set_to(model_type="gone", dflash_config=None), "can't be loaded"),
        (set_to(layer_types=["sliding_attention"] * 2), "can't be used"),
    ],
)
def test_one_that_does_not_fit_is_left_out(
    checkpoint: Callable[..., Path], tmp_path: Path, change: Callable[[Path], None], told: str
) -> None:
    target = checkpoint("qwen2")
    change(dflash.random(tmp_path, target))
    model = load_model(target, drafter=tmp_path)
    assert model.drafter is None
    (line,) = model.warnings
    assert line == f"{model.drafter_why}."
    assert re.search(told, line), line
    assert line.endswith("; it goes without one.")
    assert "\n" not in line


def test_one_of_another_width(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    target = checkpoint("qwen2")
    model = load_model(target, drafter=dflash.random(tmp_path, target, hidden_size=32))
    assert "its hidden size is 32" in model.warnings[0]


def test_a_family_whose_rows_cannot_forget_takes_none(checkpoint: Callable[..., Path], pair: tuple[Path, Path]) -> None:
    with Engine.load(checkpoint("qwen3_5"), cache=no_cache(), drafter=pair[1]) as engine:
        assert "a refused one couldn't be forgotten; it goes without one." in engine.warnings[0]
        assert not engine.capabilities.drafter
        assert ask(engine, prompt("qwen2", 5), tokens=5).token_ids


def test_a_model_that_calls_its_layers_in_a_way_of_its_own(
    checkpoint: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = checkpoint("qwen2")
    monkeypatch.setattr(Taps, "put", lambda *_: None)
    model = load_model(target, drafter=dflash.random(tmp_path, target))
    assert model.drafter is None
    assert "no drafter can hear them" in model.warnings[0]


def test_one_that_is_not_there_is_an_error(checkpoint: Callable[..., Path]) -> None:
    with pytest.raises(ModelError, match=r"there is no model folder \./nowhere"):
        Engine.load(checkpoint("qwen2"), drafter="./nowhere")


# -- its memory ---------------------------------------------------------------------------------


def test_the_ledger_has_its_weights_and_its_rows(pair: tuple[Path, Path], always: None) -> None:
    def of(drafter: Path | None) -> tuple[int, int, int]:
        with Engine.load(pair[0], cache=no_cache(), drafter=drafter) as engine:
            runner = engine._loop._runner
            most, own = [0], runner.drafting.stepped

            def stepped(*args: Any) -> None:
                own(*args)
                most.append(engine.stats().memory.accounts["KV of rows"])

            runner.drafting.stepped = stepped
            said(engine, "hello")
            return runner.weights, max(most), runner._kv(100, 100)

    weights, rows, need = of(None)
    with_weights, with_rows, with_need = of(pair[1])
    file = (pair[1] / "model.safetensors").stat().st_size
    assert 0.98 * file < with_weights - weights < 1.5 * file  # it lays some of them side by side
    assert with_rows > rows
    assert with_need - need > with_rows - rows
