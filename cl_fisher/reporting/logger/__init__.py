"""Where records go beside the run folder: one file each."""
