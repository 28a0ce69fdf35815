"""From a data set to a sequence of tasks: one file each."""
