"""What is typed: the magics, their flags, what their words mean, and the same as functions."""
