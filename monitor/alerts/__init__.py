"""From transitions to messages that arrive: decide whether to tell, keep it on disk, send it until somebody took it."""
