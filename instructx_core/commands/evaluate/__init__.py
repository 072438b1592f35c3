"""The stages of `instructx eval`, a file each: what they add to the command line, and run(args) -> exit code."""
