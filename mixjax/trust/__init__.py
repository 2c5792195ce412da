"""A Fit and its runs -> how far to believe it: refits, held-out predictions, intervals, choice of a
law."""
