"""Approval channels, and the one rendering of a request that all of them show."""
