"""The report of a sweep: jobs as a grid, effects and comparisons over seeds, curves, pictures, one page."""
