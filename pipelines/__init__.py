"""Code that the stages share, and the command `daq-msa`; imports no stage."""
