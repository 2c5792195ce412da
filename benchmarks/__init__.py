"""What mixjax claims, measured: every file is one claim, prints a table and writes its numbers to
results/."""
