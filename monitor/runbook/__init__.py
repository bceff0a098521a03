"""What each alert means and what to do about it."""
