"""Prompts that help a host to use the device well."""
