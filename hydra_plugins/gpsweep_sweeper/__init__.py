"""Hydra plugin: the fused sweeper of gpsweep."""
