"""HTX coin-margined delivery futures, simulated from the venue's documentation and from published figures alone."""
