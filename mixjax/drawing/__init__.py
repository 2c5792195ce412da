"""Names and arrays -> FIGURES, in one style: nothing here knows of fits or mixtures."""
