"""Workflow files under act: the copy that it can run, its folders, and the records of its jobs."""
