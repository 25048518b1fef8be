"""The data: corpus readers, manifests, splits, sampler, dataset, batch, and the LightningDataModule."""
