"""A Fit and its runs -> what to train next."""
