"""Files that survive a power loss."""
