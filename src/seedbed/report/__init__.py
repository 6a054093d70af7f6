"""What a sweep says: its jobs as a grid, effects and comparisons over seeds, curves, pictures, one page."""
