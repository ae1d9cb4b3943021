"""The incident team."""
