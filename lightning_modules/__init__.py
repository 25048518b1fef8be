"""The model: features, augmentation, encoder, decoder, adversary, heads, losses, and the LightningModule."""
