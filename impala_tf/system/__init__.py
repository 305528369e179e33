"""The machine and its operating system: cores and threads, locks, signals, and time."""
