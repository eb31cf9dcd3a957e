"""The recipe that makes the demo family: tokenizer, target, target-written answers, drafters."""
