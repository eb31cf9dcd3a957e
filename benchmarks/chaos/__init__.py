"""Faults in a running cluster while it answers: what callers notice, and how long each kind of process is away."""
