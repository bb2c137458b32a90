"""Kept machines: brought up for one run and put away again, under a lock."""
