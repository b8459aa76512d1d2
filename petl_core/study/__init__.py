"""The study: specs, records, protocol, profiles, plans, and what runs them."""
