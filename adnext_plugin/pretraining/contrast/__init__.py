"""Contrast between views of scans."""
