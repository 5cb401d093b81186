"""Data: names, paths and streams to rows; results to files."""
