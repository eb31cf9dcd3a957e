"""Which sublayers a target's own drafts should leave out: what steps cost, what drafts would hit, and a search."""
