"""The OpenAI HTTP API as plain types: JSON in, requests of ours; events of ours, JSON out. No transport."""
