"""Linear heads of every layer and learning rate, trained by SGD on one pass over the images."""
