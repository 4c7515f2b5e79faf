"""The floor: what samples flow through, and the command `daq-msa`. Imports no stage."""
