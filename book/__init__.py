"""The book: what builds the site from the notebooks, and the pages that are computed."""
