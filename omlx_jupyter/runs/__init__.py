"""Runs that survive: many sources, one durable record each, gone on with after a kill."""
