"""Imported last by the server that decoders are forked from, and by nothing else.

The garbage collector leaves alone what was loaded before, so that all decoders share its memory.
"""

import gc

gc.collect()
gc.freeze()
