"""What keeps a run going, and ends it well: locks, signals, launchers, faults of the machine."""
