"""The engine: many independent searches (lanes) advanced together, one evaluation per lane and
tick.

`descent` says what a way down is. There are two: `gauss_newton` (damped steps by the curvature of
the objective, solved by `linear`) and `quasi_newton` (`direction` proposes which way, `linesearch`
how far). `hop` says where to search next; `lane` joins them into a state machine for ONE search;
`batch` is the only module that compiles and batches.
"""
