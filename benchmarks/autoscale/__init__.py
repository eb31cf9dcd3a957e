"""What scaling policies do with a day of multilingual traffic: `python -m benchmarks.autoscale_sim`."""
