"""The kernels in torch: what every other implementation must equal."""
