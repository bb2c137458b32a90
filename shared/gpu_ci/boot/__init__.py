"""The boot script of a machine, and what it reports."""
