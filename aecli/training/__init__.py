"""Training: rows in, a trained model out."""
