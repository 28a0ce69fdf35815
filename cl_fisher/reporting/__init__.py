"""What a run leaves behind, and what is made of it: files, loggers, tables, plots, HTML."""
