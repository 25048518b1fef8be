"""A local page on which a model is tried on speech that is recorded or uploaded (``make app``)."""
