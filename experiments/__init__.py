"""Experiments: their YAML files, the configuration and the command line."""
