"""Checkpoints: finding, loading and driving them. Everything that touches mlx-vlm and mlx-lm."""
