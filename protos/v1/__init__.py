"""Version 1 of the contracts; `make protos` writes the generated modules beside the .proto files."""
