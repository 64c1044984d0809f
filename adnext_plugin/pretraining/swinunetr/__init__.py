"""SwinUNETR's pre-training: which way round, which scan, and what was cut out."""
