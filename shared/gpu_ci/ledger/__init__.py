"""What machines have cost, as the stop jobs left it at GitHub."""
