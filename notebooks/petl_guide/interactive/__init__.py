"""Figures that answer: in a notebook with widgets, in the book without a server."""
