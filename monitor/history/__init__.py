"""Past figures of the pools, for charts: a ring in a SQLite file of its own."""
