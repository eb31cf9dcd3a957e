"""Drafting from text alone: what a sequence repeats, what its tenant was served, what a language's n-grams foretell."""
