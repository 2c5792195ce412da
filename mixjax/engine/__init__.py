"""The engine: many independent searches (lanes) advanced together, one evaluation per lane and tick.

`direction` proposes which way, `linesearch` how far, `hop` where to search next; `lane` joins them
into a state machine for ONE search; `batch` is the only module that compiles and batches.
"""
