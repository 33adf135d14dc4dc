"""Self-supervised learning from images and frames."""
