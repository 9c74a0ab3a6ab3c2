"""What can be set, and where from."""
