"""Drafters judged by the protocol of Yi et al. (EMNLP 2024, 2406.16758): see `training.evaluation.protocol`."""
