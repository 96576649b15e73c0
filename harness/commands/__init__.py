"""The commands: words from the command line come in, each command's file runs its part of the pipeline, an exit code goes out."""
