"""Tokens a second of this cluster beside its peers: the same weights, prompts, machine and count of tokens."""
