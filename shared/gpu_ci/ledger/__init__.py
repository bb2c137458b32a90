"""What machines have cost, as stop jobs recorded it on GitHub."""
