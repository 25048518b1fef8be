"""Shares a model: a folder with settings, weights, an ONNX graph and a model card (``make export``)."""
