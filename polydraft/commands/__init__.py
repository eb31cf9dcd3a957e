"""One file per command: parse, load, call, print."""
