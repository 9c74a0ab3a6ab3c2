"""What a server says of its models and of itself, as JSON values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from ..remote import wire

if TYPE_CHECKING:
    from ..chat.client import Engine


def hello(server: str, name: str, engine: Engine, models: list[str], max_body: int) -> wire.Item:
    """Of one model; see `wire.Hello`."""
    parser, recipe = engine.tool_parser, engine.recipe
    made = wire.Hello(
        server=f"omlx {server}",
        name=name,
        family=engine.family,
        is_ocr=engine.is_ocr,
        sees=engine.sees,
        thinks=engine.thinks,
        identity=engine.capabilities.identity,
        context=engine.context,
        pixel_budget=engine.pixel_budget,
        models=tuple(models),
        warnings=engine.warnings,
        drafter=engine.drafter,
        recipe=None if recipe is None else asdict(recipe),
        grounding=asdict(engine.grounding),
        tool_starts=tuple(parser.starts),
        tool_begins=tuple(parser.begins) if isinstance(parser.begins, tuple | list) else (),
        tool_start_id=parser.start_id,
        tool_style=str(parser.style),
        max_body=max_body,
    )
    return asdict(made)


def capabilities(engine: Engine) -> wire.Item:
    able = engine.capabilities
    return {**asdict(able), "sampling": wire.sampling_out(able.sampling)}


def figures(engine: Engine, sessions: list[str]) -> wire.Item:
    return {
        "stats": asdict(engine.stats()),
        "requests": [asdict(lane) for lane in engine.requests()],
        "recent": [asdict(done) for done in engine.recent()],
        "sessions": sessions,
    }


_COUNTS = {
    "finished": ("requests_finished_total", "counter", "Requests that were answered."),
    "failed": ("requests_failed_total", "counter", "Requests that ended with an error."),
    "cancelled": ("requests_cancelled_total", "counter", "Requests that were cancelled."),
    "prompt_tokens": ("prompt_tokens_total", "counter", "Tokens of prompts."),
    "completion_tokens": ("completion_tokens_total", "counter", "Tokens that were written."),
    "steps": ("decode_steps_total", "counter", "Decode steps."),
    "images_encoded": ("pictures_encoded_total", "counter", "Pictures that were encoded."),
    "images_reused": ("pictures_reused_total", "counter", "Pictures whose features were reused."),
    "decoding": ("rows_decoding", "gauge", "Rows that write."),
    "prefilling": ("rows_prefilling", "gauge", "Rows in prefill."),
    "waiting": ("requests_waiting", "gauge", "Requests that wait for a row."),
    "preparing": ("requests_preparing", "gauge", "Requests whose pictures are being read."),
    "kv_bytes": ("kv_bytes", "gauge", "Bytes of KV of running rows."),
}


def metrics(engines: Mapping[str, Engine], sessions: int) -> str:
    """Prometheus' text form, a line a model."""
    stats = {name: engine.stats() for name, engine in engines.items()}
    lines = ["# HELP omlx_clients Clients that are connected.", "# TYPE omlx_clients gauge", f"omlx_clients {sessions}"]

    def add(name: str, kind: str, helped: str, values: Mapping[str, float]) -> None:
        lines.extend((f"# HELP omlx_{name} {helped}", f"# TYPE omlx_{name} {kind}"))
        lines.extend(f'omlx_{name}{{model="{_escaped(model)}"}} {value}' for model, value in values.items())

    for key, (name, kind, helped) in _COUNTS.items():
        add(name, kind, helped, {model: getattr(one, key) for model, one in stats.items()})
    add("memory_bytes", "gauge", "Bytes held in all.", {m: s.memory.total for m, s in stats.items()})
    for tier in ("ram", "ssd"):
        held = {m: getattr(s.cache, f"tokens_{tier}") for m, s in stats.items()}
        add(f"cached_tokens_{tier}_total", "counter", f"Prompt tokens that came from {tier.upper()}.", held)
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
