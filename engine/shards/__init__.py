"""One target over several processes: tensor parallelism. Rank 0 has the engine, the others do what it does."""
