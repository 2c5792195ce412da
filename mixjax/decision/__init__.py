"""What a decision needs beyond one optimum: supply, comparisons, flat regions, moves, robustness, budgets, and the paper's analyses."""
