"""A lean torch twin of GLM-OCR (parameter names and mathematics of `transformers`' classes).

Grey patches replace the three-channel, two-frame convolution while training; `export.py` folds
them back, so that the result is an ordinary `glm_ocr` checkpoint.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import CHAR_CLASSES, LINE_CLASSES, MERGE, PATCH, SLOTS, VOCAB_SIZE, ModelSizes


class RMSNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), self.weight.shape, self.weight, 1e-5)


def _rotate_halves(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


def _rotate_pairs(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack((a * cos - b * sin, b * cos + a * sin), -1).flatten(-2)


def _gated(module: nn.Module, x: Tensor) -> Tensor:
    return module.down_proj(F.silu(module.gate_proj(x)) * module.up_proj(x))


def _holder(**children: nn.Module) -> nn.Module:
    holder = nn.Module()
    for name, child in children.items():
        holder.add_module(name, child)
    return holder


class VisionBlock(nn.Module):
    def __init__(self, s: ModelSizes) -> None:
        super().__init__()
        width, self.heads = s.vision_hidden, s.vision_heads
        self.norm1, self.norm2 = RMSNorm(width), RMSNorm(width)
        head = width // self.heads
        self.attn = _holder(
            qkv=nn.Linear(width, 3 * width),
            proj=nn.Linear(width, width),
            q_norm=RMSNorm(head),
            k_norm=RMSNorm(head),
        )
        self.mlp = _holder(
            gate_proj=nn.Linear(width, s.vision_intermediate),
            up_proj=nn.Linear(width, s.vision_intermediate),
            down_proj=nn.Linear(s.vision_intermediate, width),
        )

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, length, width = x.shape
        qkv = self.attn.qkv(self.norm1(x)).view(batch, length, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        q = _rotate_halves(self.attn.q_norm(q), cos, sin).to(v.dtype)
        k = _rotate_halves(self.attn.k_norm(k), cos, sin).to(v.dtype)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, length, width)
        x = x + self.attn.proj(mixed)
        return x + _gated(self.mlp, self.norm2(x))


class VisionTower(nn.Module):
    def __init__(self, s: ModelSizes) -> None:
        super().__init__()
        width, out = s.vision_hidden, s.hidden
        self.head_dim = width // s.vision_heads
        self.patch = nn.Linear(PATCH * PATCH, width)
        self.blocks = nn.ModuleList(VisionBlock(s) for _ in range(s.vision_depth))
        self.post_layernorm = RMSNorm(width)
        self.downsample = nn.Linear(MERGE * MERGE * width, out)
        self.merger = _holder(
            proj=nn.Linear(out, out, bias=False),
            post_projection_norm=nn.LayerNorm(out),
            gate_proj=nn.Linear(out, 3 * out, bias=False),
            up_proj=nn.Linear(out, 3 * out, bias=False),
            down_proj=nn.Linear(3 * out, out, bias=False),
        )

    def _rope(self, rows: int, columns: int, device: torch.device) -> tuple[Tensor, Tensor]:
        half = self.head_dim // 2
        inverse = 1 / 10000 ** (torch.arange(0, half, 2, device=device).float() / half)
        grid = torch.meshgrid(torch.arange(rows, device=device), torch.arange(columns, device=device), indexing="ij")
        angles = [
            g.reshape(rows // MERGE, MERGE, columns // MERGE, MERGE).permute(0, 2, 1, 3).reshape(-1, 1) * inverse
            for g in grid
        ]
        angle = torch.cat(angles, -1)[None, None]
        return angle.cos(), angle.sin()

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, H, W) normalised grey pixels -> (B, H/16 * W/16, hidden)."""
        batch, height, width = pixels.shape
        rows, columns = height // PATCH, width // PATCH
        x = pixels.view(batch, rows // MERGE, MERGE, PATCH, columns // MERGE, MERGE, PATCH)
        x = x.permute(0, 1, 4, 2, 5, 3, 6).reshape(batch, rows * columns, PATCH * PATCH)
        cos, sin = self._rope(rows, columns, pixels.device)
        x = self.patch(x)
        for block in self.blocks:
            x = block(x, cos, sin)
        x = self.post_layernorm(x).reshape(batch, rows * columns // MERGE**2, -1)
        x = self.merger.proj(self.downsample(x))
        return _gated(self.merger, F.gelu(self.merger.post_projection_norm(x.float())))


class TextLayer(nn.Module):
    def __init__(self, s: ModelSizes) -> None:
        super().__init__()
        width, inner = s.hidden, s.heads * s.head_dim
        self.heads, self.head_dim = s.heads, s.head_dim
        self.self_attn = _holder(
            q_proj=nn.Linear(width, inner, bias=False),
            k_proj=nn.Linear(width, inner, bias=False),
            v_proj=nn.Linear(width, inner, bias=False),
            o_proj=nn.Linear(inner, width, bias=False),
        )
        self.mlp = _holder(
            gate_up_proj=nn.Linear(width, 2 * s.intermediate, bias=False),
            down_proj=nn.Linear(s.intermediate, width, bias=False),
        )
        self.input_layernorm, self.post_attention_layernorm = RMSNorm(width), RMSNorm(width)
        self.post_self_attn_layernorm, self.post_mlp_layernorm = RMSNorm(width), RMSNorm(width)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The layer's output and its rotated queries and keys (for the attention loss)."""
        batch, length, _ = x.shape
        a, y = self.self_attn, self.input_layernorm(x)
        q, k, v = (
            p(y).view(batch, length, self.heads, self.head_dim).transpose(1, 2) for p in (a.q_proj, a.k_proj, a.v_proj)
        )
        q = _rotate_pairs(q.float(), cos, sin).to(v.dtype)
        k = _rotate_pairs(k.float(), cos, sin).to(v.dtype)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(batch, length, -1)
        x = x + self.post_self_attn_layernorm(a.o_proj(mixed))
        gate, up = self.mlp.gate_up_proj(self.post_attention_layernorm(x)).chunk(2, -1)
        return x + self.post_mlp_layernorm(self.mlp.down_proj(F.silu(gate) * up)), q, k


@dataclass
class Layout:
    """One batch's prompt: token ids around the images and the 3-axis positions of every token."""

    prefix: list[list[int]]  # ids before image 0, before image 1, ..., and after the last image
    grid: tuple[int, int]  # rows and columns of cells, the same for every image of the batch

    @property
    def images(self) -> int:
        return len(self.prefix) - 1

    @property
    def cells(self) -> int:
        return self.grid[0] * self.grid[1]

    def image_starts(self) -> list[int]:
        starts, at = [], 0
        for ids in self.prefix[:-1]:
            at += len(ids)
            starts.append(at)
            at += self.cells
        return starts

    def length(self) -> int:
        return sum(map(len, self.prefix)) + self.images * self.cells

    def positions(self, answer: int) -> Tensor:
        """(3, prompt + answer) M-RoPE positions, as `get_rope_index` computes them."""
        rows, columns = self.grid
        parts, at = [], 0
        for index, ids in enumerate(self.prefix):
            count = len(ids) + (answer if index == self.images else 0)
            parts.append((at + torch.arange(count)).expand(3, count))
            at += count
            if index < self.images:
                time = torch.zeros(rows * columns, dtype=torch.long)
                row = torch.arange(rows).repeat_interleave(columns)
                column = torch.arange(columns).repeat(rows)
                parts.append(at + torch.stack((time, row, column)))
                at += max(rows, columns)
        return torch.cat(parts, 1)


class TinyOcr(nn.Module):
    def __init__(self, sizes: ModelSizes | None = None) -> None:
        super().__init__()
        s = self.sizes = sizes or ModelSizes()
        self.visual = VisionTower(s)
        self.embed_tokens = nn.Embedding(VOCAB_SIZE, s.hidden)
        nn.init.normal_(self.embed_tokens.weight, 0, 0.5)
        self.layers = nn.ModuleList(TextLayer(s) for _ in range(s.layers))
        self.norm = RMSNorm(s.hidden)
        self.lm_head = nn.Linear(s.hidden, VOCAB_SIZE, bias=False)
        # Training aids, dropped at export: what stands in each cell, and on which line.
        self.aid_chars = nn.Linear(s.hidden, SLOTS * CHAR_CLASSES)
        self.aid_lines = nn.Linear(s.hidden, 2 * LINE_CLASSES)

    def _rope(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        s = self.sizes
        inverse = 1 / s.rope_theta ** (torch.arange(0, s.head_dim, 2, device=positions.device).float() / s.head_dim)
        axis = torch.tensor([i for i, n in enumerate(s.mrope_section) for _ in range(n)], device=positions.device)
        angle = positions.float()[axis].T[None, None] * inverse
        return angle.cos(), angle.sin()

    def forward(
        self, pixels: Tensor, layout: Layout, answer: Tensor, targets: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """`pixels` (B * images, H, W), `answer` (B, T) ids fed after the prompt.

        `targets` (B, T + 1): absolute index of the cell that each next character stands in, or -1.
        Returns logits (B, T + 1, V), image features (B * images, cells, hidden), attention loss.
        """
        batch = answer.shape[0]
        device = answer.device
        features = self.visual(pixels)
        per_image = features.float().view(batch, layout.images, layout.cells, -1)
        parts = []
        for index, ids in enumerate(layout.prefix):
            parts.append(self.embed_tokens(torch.tensor(ids, device=device))[None].expand(batch, -1, -1))
            if index < layout.images:
                parts.append(per_image[:, index])
        x = torch.cat((*parts, self.embed_tokens(answer)), 1)
        cos, sin = self._rope(layout.positions(answer.shape[1]).to(device))
        first = layout.length() - 1  # the last prompt token predicts the first character
        losses = []
        for index, layer in enumerate(self.layers):
            x, q, k = layer(x, cos, sin)
            if targets is not None and index > 0:
                losses.append(self._attention_loss(q[:, 0], k[:, 0], first, targets))
        logits = self.lm_head(self.norm(x[:, first:])).float()
        return logits, features, sum(losses) / len(losses) if losses else None

    def _attention_loss(self, q: Tensor, k: Tensor, first: int, targets: Tensor) -> Tensor:
        """Cross-entropy of head 0's attention against the cell of the next character."""
        count = targets.shape[1]
        scores = (q[:, first : first + count] @ k.transpose(1, 2)).float() / math.sqrt(self.sizes.head_dim)
        key = torch.arange(k.shape[1], device=k.device)
        query = first + torch.arange(count, device=k.device)
        scores = scores.masked_fill(key[None, None] > query[None, :, None], -1e9)
        # A mean over nothing is no number: a batch of counting questions has no character to look at.
        total = F.cross_entropy(scores.flatten(0, 1), targets.flatten(), ignore_index=-1, reduction="sum")
        return total / max(1, int((targets >= 0).sum()))
