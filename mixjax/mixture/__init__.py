"""A Fit and a question about mixtures -> an answer: one record, one solver, one aid a file."""
