"""The command line, command by command. Each is a few lines that call the part that does the work."""
