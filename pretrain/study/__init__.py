"""The study: the paper's claim at a size that one machine can do, from training to tables."""
