"""How a clip's frames and samples are read from its file; `pipelines.media` is the way in."""
