"""A page of text becomes lines that a small model reads well, and their texts become the page again."""
