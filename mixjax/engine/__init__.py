"""The engine: many independent searches (lanes) advanced together, one evaluation per lane and
tick.

`descent` says what a way down is; there are two: `gauss_newton` (damped steps by the curvature of
the objective) and `quasi_newton` (directions from past gradients, lengths from a line search).
`lane` makes ONE search of it, with hops; `batch` is the only module that compiles and batches.
"""
