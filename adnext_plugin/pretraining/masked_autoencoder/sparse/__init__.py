"""Encoding the visible patches of a scan as if the masked ones did not exist; several ways, one result."""
