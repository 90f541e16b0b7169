"""Official layouts read from disk: one file a family of sets."""
