"""The verbs of the command line, one file each: SUMMARY, parser() and main(args) -> exit status."""
