"""A task and a dataset for sdssl-bench."""
