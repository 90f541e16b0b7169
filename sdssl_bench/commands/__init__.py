"""One file per command of the command line; heavy imports stay inside the functions."""
