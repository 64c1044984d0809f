"""The steps that every plan knows, one a file."""
