"""Speed and detection power, measured: tables and CSV files come out, and an exit code that says whether they hold."""
