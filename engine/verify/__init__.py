"""Verification as the engine sees it: which verifiers there are and which drafts each may judge."""
