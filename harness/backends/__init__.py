"""What turns a problem into an outcome: one file a framework, found by looking."""
