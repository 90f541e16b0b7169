"""Pickles read as data: a small machine without the dangerous half of Python's own."""
