"""gpu-ci: rent a GPU machine as a single-use GitHub runner, and give it back whatever happens."""
