"""The control plane: config, sessions, language, text, tenants, routing. Knows no torch, no Ray, no transformers."""
