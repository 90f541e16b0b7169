"""The sets in miniature, in their official layouts, drawn from free photographs."""
