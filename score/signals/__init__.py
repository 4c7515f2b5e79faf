"""One module a signal; `catalogue` lists them. What a signal's value is worth is decided later."""
