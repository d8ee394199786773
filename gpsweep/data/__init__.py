"""Data sets: one file a family; each builder returns a `gpsweep.data.base.Source`."""
