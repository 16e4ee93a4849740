"""What may be wrong with a device that serves: the board, its disk, its clock, its network, the service."""
