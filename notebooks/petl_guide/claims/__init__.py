"""The study's claims: what is checked, on which numbers, and the verdicts."""
