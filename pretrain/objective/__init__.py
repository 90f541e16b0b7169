"""What is learned: networks, heads, losses, targets of every layer, and their optimiser's rules."""
