"""Magics, results and views: what a person meets in a notebook."""
