"""Other people's tables: reading, cells, kinds, joins."""
