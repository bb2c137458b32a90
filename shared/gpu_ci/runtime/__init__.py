"""What a step's process lives with: time, signals, and the runner's commands."""
