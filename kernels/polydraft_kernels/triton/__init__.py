"""The kernels in Triton; this folder alone imports it, and `ops` alone imports this folder."""
