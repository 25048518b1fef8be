"""Broken input from seeds, and what may come of it (see ``tests.fuzz``)."""
