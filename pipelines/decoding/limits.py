"""The limits of a media file; what is beyond them is refused.

How long a clip may be is a setting, `corpus.max_duration_s`; how long and with how much memory a file may
be decoded, `pipelines.decoding.isolation` decides.
"""

MAX_BYTES = 8 * 2**30  # of the file
MAX_STREAMS = 64
MAX_PIXELS = 8192 * 8192  # of one frame: 200 MB as RGB
MAX_LOST = 0.02  # share of a stream's packets or frames that may be beyond decoding
