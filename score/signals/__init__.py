"""One module a signal; `catalogue` lists them. A signal is a number, raw; what it is worth is decided later."""
