"""The offline world: stand-ins for GitHub and for its runner, and faults in front of any server."""
