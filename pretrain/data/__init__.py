"""Images and their views, from folders, shards or the device."""
