"""Where scans come from: BIDS trees, LONI downloads, tables."""
