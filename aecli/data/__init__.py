"""Data: reads rows from names, paths and streams; writes results to files."""
