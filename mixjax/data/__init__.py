"""What was trained, before any law: tables of runs, selections, splits, designs."""
