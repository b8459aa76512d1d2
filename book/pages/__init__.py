"""Pages of the book whose numbers are computed when it is built."""
