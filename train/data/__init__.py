"""Training data: splits, decoding, crops, camera augmentation."""
