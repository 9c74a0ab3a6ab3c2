"""`python -m omlx_jupyter serve`: one process that holds engine, cache and batch for all who connect."""
