"""Fuzzing of every gRPC method: lawful messages with hostile parts, mutated bytes, callers without a key."""
