"""`%omlx`: looking after models, cache, conversations and jobs."""
