"""Verification kernels and the noise they share with drafters. Import `ops`, `packing`, `noise` or `noise_rows`."""
