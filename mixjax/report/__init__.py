"""What was found, as figures, documents and files of training stacks."""
