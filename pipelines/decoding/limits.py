"""The limits of a media file; what is beyond them is refused.

How long a clip may be is a setting, `corpus.max_duration_s`. `pipelines.decoding.isolation` ends what takes
longer than here; of memory, decoding takes what the process may have (`ulimit -v`).
"""

MAX_BYTES = 8 * 2**30  # of the file
MAX_STREAMS = 64
MAX_PIXELS = 8192 * 8192  # of one frame: 200 MB as RGB
# Reading a clip may take so many times the length of the longest one accepted, and at least so long (s).
TIMES_LONGEST, MIN_READING_S = 10.0, 60.0
MAX_LOST = 0.02  # share of a stream's packets or frames that may be beyond decoding
