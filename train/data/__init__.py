"""What a training reads: folders and splits, decoded images, augmentation, crops; imports ``losses`` only."""
