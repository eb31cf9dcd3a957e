"""The engine's kernels and the noise they share with drafters. Import `ops`, `packing`, `kv_pools` or `noise`."""
