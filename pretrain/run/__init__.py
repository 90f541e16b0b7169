"""A run: its settings and presets, its folder, snapshots, log, and the loop itself."""
