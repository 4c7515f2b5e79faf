"""Whether quality falls with corruption, and follows changes of sentiment."""
