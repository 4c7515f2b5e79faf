"""Changes of an original from which the calibration makes its pairs: harmless ones, and a ruined clip."""
