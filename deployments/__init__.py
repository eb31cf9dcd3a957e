"""The Ray Serve application: thin wrappers around `cluster` and `engine`, and the only place that knows Ray."""
