"""The command line: start runs, watch them, read what they left, and play a whole team on one machine."""
