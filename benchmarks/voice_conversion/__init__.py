"""Speed and quality of voice conversion."""
