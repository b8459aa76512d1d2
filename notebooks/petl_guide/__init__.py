"""What the chapters need and the core does not: analyses, claims, figures, exercises, running notebooks."""
