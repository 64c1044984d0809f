"""AMAES: fill in what is masked, and undo what was done to intensities."""
