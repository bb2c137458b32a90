"""How machines and registrations are given back, and whether a job still needs them."""
