"""The one client of GitHub: runners, runs and jobs, annotations, labels, files."""
