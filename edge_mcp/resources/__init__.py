"""What can be read: model cards and the device's status."""
