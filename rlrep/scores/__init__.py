"""Scores of many runs: statistics with their uncertainty, published numbers beside them, and the report."""
