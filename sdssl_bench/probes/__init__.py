"""Probes on frozen and trainable encoders: logistic regression, SGD heads, fine-tuning."""
