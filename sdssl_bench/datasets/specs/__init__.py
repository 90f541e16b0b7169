"""Everything about each set, as light data: one `DatasetSpec` a set."""
