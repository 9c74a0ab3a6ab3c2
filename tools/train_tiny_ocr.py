"""Trains the embedded OCR model from scratch, on text that it renders itself.

    python -m tools.train_tiny_ocr --minutes 120 --out runs/tiny-ocr
    python -m tools.train_tiny_ocr --minutes 60 --out runs/tiny-ocr        # goes on from its checkpoint
    python -m tools.train_tiny_ocr --weights omlx_jupyter/assets/tiny-ocr --level 6 --rate 3e-4 --out runs/on

Needs the `train` extra (torch). Runs on CPU, CUDA or MPS. The learning rate falls to zero over the
last third of the run; a checkpoint with optimiser state is written every few minutes, and with a running
average of the weights, which is what `tools/export_tiny_ocr.py` writes. `--weights` goes on from an exported
folder: its training aids start anew, and they alone learn at first.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from tools.tiny_ocr.batches import LEVELS, Batch, make_batch
from tools.tiny_ocr.config import CHAR_CLASSES, END, LINE_CLASSES, SLOTS, ModelSizes
from tools.tiny_ocr.export import import_tensors
from tools.tiny_ocr.model import TinyOcr

VALIDATION_SEED = 2_000_000_000
AIDS_ALONE = 200  # steps; random aids would pull at features that are good
AVERAGED = 0.998  # of the average is kept at each step


def pick_device(name: str) -> torch.device:
    if name != "auto":
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _producer(queue: Any, level: Any, seed: int, stride: int, scale: int, older: float) -> None:
    while True:
        queue.put(make_batch(seed, level.value, scale, older))
        seed += stride


def make_optimisers(net: TinyOcr, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the hidden matrices, AdamW for embeddings, heads, norms and biases."""
    hidden = ("layers", "blocks", "merger", "downsample")
    named = dict(net.named_parameters())
    # A list: the order ties the optimiser's saved state to its parameters.
    matrices = [n for n, p in named.items() if p.ndim == 2 and any(part in n for part in hidden)]
    rest = [p for n, p in named.items() if n not in matrices]
    return [
        torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.98), weight_decay=0.01),
        torch.optim.Muon(
            [named[n] for n in matrices],
            lr=rate,
            weight_decay=0.01,
            momentum=0.95,
            nesterov=True,
            adjust_lr_fn="match_rms_adamw",
            ns_steps=4,
        ),
    ]


def loss_of(net: TinyOcr, batch: Batch, device: torch.device, bf16: bool) -> tuple[torch.Tensor, dict[str, float]]:
    answers = torch.from_numpy(batch.answers).to(device)
    fed = answers[:, :-1].clamp(min=0)
    fed[answers[:, :-1] < 0] = END
    cells = torch.from_numpy(batch.cells).to(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        pixels = torch.from_numpy(batch.pixels).to(device).float() / 127.5 - 1
        logits, features, attention = net(pixels, batch.layout, fed, cells)
        chars = net.aid_chars(features).float().view(-1, SLOTS, CHAR_CLASSES)
        lines = net.aid_lines(features).float().view(-1, LINE_CLASSES)
    text = F.cross_entropy(logits.flatten(0, 1), answers.flatten(), ignore_index=-100)
    slots = torch.from_numpy(batch.slots).to(device).long().view(-1, SLOTS)
    weight = torch.ones(CHAR_CLASSES, device=device)
    weight[0] = 0.3
    dense = F.cross_entropy(chars[:, :8].flatten(0, 1), slots[:, :8].flatten(), weight=weight)
    dense = dense + F.cross_entropy(chars[:, 8:].flatten(0, 1), slots[:, 8:].flatten(), weight=weight)
    line_labels = torch.from_numpy(batch.lines).to(device).long().view(-1)
    line_weight = torch.ones(LINE_CLASSES, device=device)
    line_weight[0] = 0.3
    line = F.cross_entropy(lines, line_labels, weight=line_weight)
    assert attention is not None
    with torch.no_grad():
        there = answers != -100
        right = logits.argmax(-1) == answers
        known = slots > 0
        figures = {
            "accuracy": right[there].float().mean().item(),
            "exact": (right | ~there).all(1).float().mean().item(),
            "text": text.item(),
            "dense": dense.item(),
            "seen": (chars.argmax(-1)[known] == slots[known]).float().mean().item(),
            "line": line.item(),
            "attention": attention.item(),
        }
    return text + dense + 0.3 * attention + 0.2 * line, figures


@torch.no_grad()
def validate(net: TinyOcr, top: int, device: torch.device, bf16: bool) -> dict[str, list[float]]:
    """Teacher-forced (accuracy, exact pictures) per level. Exact here is exact in greedy decoding too."""
    net.eval()
    table = {}
    for level in range(max(0, top - 1), top + 1):
        rows = []
        seed = VALIDATION_SEED + 1000 * level
        while len(rows) < 4:
            batch = make_batch(seed, level)
            seed += 1
            if batch.level == level:
                figures = loss_of(net, batch, device, bf16)[1]
                rows.append([figures["accuracy"], figures["exact"]])
        table[f"level{level}"] = [round(float(x), 4) for x in np.mean(rows, 0)]
    net.train()
    return table


class Run:
    """The state that a checkpoint holds."""

    def __init__(self, args: argparse.Namespace) -> None:
        torch.manual_seed(args.seed)
        self.device = pick_device(args.device)
        self.net = TinyOcr(ModelSizes()).to(self.device)
        self.path = Path(args.out) / "checkpoint.pt"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.step = self.level = 0
        self.minutes = 0.0
        self.aids_alone = 0
        saved = None
        if self.path.exists():
            saved = torch.load(self.path, map_location=self.device)
            same_shapes = self._take(saved["net"])
            self.step, self.level, self.minutes = saved["step"], saved["level"], saved["minutes"]
        elif args.weights:
            self._take_exported(Path(args.weights))
        average = saved.get("average") if saved else None
        self.average = average or {name: value.clone() for name, value in self.net.state_dict().items()}
        self.optimisers = make_optimisers(self.net, args.rate)
        if saved and "optimisers" in saved and same_shapes:
            for optimiser, state in zip(self.optimisers, saved["optimisers"], strict=True):
                optimiser.load_state_dict(state)
        self.level = max(self.level, args.level)

    def _take(self, weights: dict[str, torch.Tensor]) -> bool:
        """Load `weights`. Where the character set has grown, the aid keeps what it knows; False then."""
        fresh = self.net.state_dict()
        grown = False
        for name, weight in weights.items():
            if name.startswith("aid_") and fresh[name].shape != weight.shape:
                old, new = weight.unflatten(0, (SLOTS, -1)), fresh[name].unflatten(0, (SLOTS, -1))
                new[:, : old.shape[1]] = old
                if name.endswith("bias"):
                    new[:, old.shape[1] :] = old.min() - 2  # unseen so far
                weights[name], grown = new.flatten(0, 1), True
        self.net.load_state_dict(weights)
        return not grown

    def _take_exported(self, folder: Path) -> None:
        missing, unknown = self.net.load_state_dict(import_tensors(folder, self.net.sizes), strict=False)
        if unknown or not all(name.startswith("aid_") for name in missing):
            raise SystemExit(f"{folder} doesn't fit: missing {missing}, unknown {unknown}")
        self.aids_alone = AIDS_ALONE

    def stepped(self) -> None:
        """Hold still what isn't to learn yet, and step."""
        if self.step < self.aids_alone:
            for name, parameter in self.net.named_parameters():
                if not name.startswith("aid_"):
                    parameter.grad = None
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        for optimiser in self.optimisers:
            optimiser.step()
        self.step += 1
        with torch.no_grad():
            for name, value in self.net.state_dict().items():
                self.average[name].lerp_(value, 1 - AVERAGED)

    def save(self, minutes: float) -> None:
        state = {
            "net": self.net.state_dict(),
            "average": self.average,
            "optimisers": [o.state_dict() for o in self.optimisers],
            "step": self.step,
            "level": self.level,
            "minutes": self.minutes + minutes,
        }
        partial = self.path.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, self.path)

    def rate(self, base: float, since: int, share: float) -> float:
        """Linear warm-up over 100 steps, constant, then linear decay over the last third."""
        return base * min(1.0, (since + 1) / 100) * (1.0 if share < 0.65 else max(0.02, (1 - share) / 0.35))


def train(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    run = Run(args)
    context = multiprocessing.get_context("spawn")
    level = context.Value("i", run.level)
    queue = context.Queue(max(4, args.workers))
    for worker in range(args.workers):
        seed = args.seed + run.step * 17 + worker
        context.Process(
            target=_producer, args=(queue, level, seed, args.workers, args.scale, args.older), daemon=True
        ).start()
    log = (run.path.parent / "curve.jsonl").open("a")
    start = saved_at = time.monotonic()
    first_step, average = run.step, 0.5
    while (elapsed := (time.monotonic() - start) / 60) < args.minutes:
        for optimiser in run.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = run.rate(args.rate, run.step - first_step, elapsed / args.minutes)
        batch = queue.get()
        loss, figures = loss_of(run.net, batch, run.device, args.bf16)
        for optimiser in run.optimisers:
            optimiser.zero_grad(set_to_none=True)
        loss.backward()
        run.stepped()
        if batch.level == run.level:
            average = 0.97 * average + 0.03 * figures["accuracy"]
        if run.step % 25 == 0:
            shown = " ".join(f"{k} {v:.3f}" for k, v in figures.items())
            size = batch.pixels.shape
            print(f"{run.step} {elapsed:.1f}m L{batch.level}/{run.level} {size} avg {average:.3f} {shown}", flush=True)
        if average > LEVELS[run.level].passes_at:
            run.level += 1
            level.value, average = run.level, 0.5
            print(f">>> level {run.level} at step {run.step}", flush=True)
        if time.monotonic() - saved_at > 60 * args.save_minutes:
            run.save(elapsed)
            row = {"step": run.step, "minutes": round(run.minutes + elapsed, 1), "level": run.level}
            row |= validate(run.net, run.level, run.device, args.bf16)
            log.write(json.dumps(row) + "\n")
            log.flush()
            print("VALIDATION", json.dumps(row), flush=True)
            saved_at = time.monotonic()
    run.save(args.minutes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="runs/tiny-ocr", help="folder for checkpoint.pt and curve.jsonl")
    parser.add_argument("--weights", help="an exported folder to start from, where --out has no checkpoint yet")
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--level", type=int, default=0, help="curriculum level to start from at least")
    parser.add_argument("--seed", type=int, default=12345)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--workers", type=int, default=1, help="processes that render pictures")
    parser.add_argument("--scale", type=int, default=1, help="how many times more pictures a step; 8 suits a GPU")
    parser.add_argument("--older", type=float, default=0.34, help="share of the batches from the three levels before")
    parser.add_argument("--save-minutes", type=float, default=5)
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
