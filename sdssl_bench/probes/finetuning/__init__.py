"""The whole encoder trained with a head on one of its layers."""
