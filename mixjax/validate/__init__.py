"""How far a fit can be trusted (Fit + runs -> VALIDATION): held-out scores, refits, intervals, what the data pin down."""
