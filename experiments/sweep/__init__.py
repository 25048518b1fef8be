"""Sweeps: a search for settings in W&B's format, by W&B's server or, without an account, here with Optuna."""
