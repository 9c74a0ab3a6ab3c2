"""The batching engine: one thread that owns MLX, requests in, tokens out."""
