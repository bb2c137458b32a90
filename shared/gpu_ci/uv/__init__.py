"""Sets uv up for a user who is not root, on a machine that stays."""
