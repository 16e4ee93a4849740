"""Devices in the network: how they are advertised, and found."""
