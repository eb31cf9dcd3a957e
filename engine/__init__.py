"""The data plane: loading, paged KV, tree attention, scheduling, drafting, verification. No Ray, no protobuf."""
