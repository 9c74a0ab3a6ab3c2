"""Prompts, messages and the OpenAI-shaped client over the engine."""
