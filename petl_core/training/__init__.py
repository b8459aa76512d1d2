"""Training: the recipe, the loop, augmentation, evaluation, and what a device can do."""
