"""Minimising a smooth function over the simplex, with caps and floors: no word of laws, fits or tables."""
