"""What can be called: models as tools, their argument and result schemas."""
