"""How the models in `models/` were made: their data, tokenizer and target. Drafters come from `polydraft train`."""
