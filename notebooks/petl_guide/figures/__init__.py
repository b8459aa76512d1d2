"""The figures and tables of the chapters, in one look."""
