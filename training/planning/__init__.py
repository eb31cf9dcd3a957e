"""Which drafter is worth training: shapes, what they cost on a machine, what they bring (2402.01528)."""
