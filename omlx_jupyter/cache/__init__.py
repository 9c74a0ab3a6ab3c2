"""The prefix cache (not built yet)."""
