"""Published methods that balance modalities, to compare the conflict penalty with."""
