"""`sdssl-bench doctor`: what a checkpoint is, whether it was trained, and what `run` would do with it.

Loads exactly as `run` does, so what it shows is what would be scored.
"""




