"""Which runs to train next: what each would teach about a law's parameters and the best mixture, and what it would cost."""
