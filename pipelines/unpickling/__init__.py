"""How an untrusted pickle is read: its opcodes, and what it may call. `pipelines.pickles` is the way in."""
