"""A device and a host that get to know each other by six digits, which a person carries from one to the other."""
