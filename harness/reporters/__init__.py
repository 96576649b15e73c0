"""What turns a finished run into files: one file a format, found by looking."""
