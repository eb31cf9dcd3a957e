"""What the kernels, the captured step and the whole engine do on one GPU: `python -m benchmarks.gpu`."""
