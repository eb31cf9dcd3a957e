"""The data plane: model loading, paged KV, tree attention, scheduling, drafting, verification. Knows no Ray and no protobuf."""
