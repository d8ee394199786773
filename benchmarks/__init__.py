"""How fast gpsweep is, measured against what it replaces; see README.md in this folder."""
