"""The files of the stand-in runner's archive; nothing here is imported."""
