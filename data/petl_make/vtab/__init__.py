"""Packs of VTAB-1K: the nineteen tasks, their sources, making and checking packs."""
