"""The device's load: what it measures of itself, and what that allows."""
