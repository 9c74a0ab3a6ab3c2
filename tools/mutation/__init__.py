"""Mutation testing with cosmic-ray: see README.md here."""
