"""The core model: one network, described once, and the file that holds it."""
