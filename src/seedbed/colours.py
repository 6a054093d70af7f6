"""Colours of all pictures: matplotlib's names of colour maps, and single colours."""

# colour maps
HEAT_MAP = "viridis"  # a metric over two swept keys, or of layers × inits
ORDER = "viridis"  # curves of an ordered set: values of a numeric key, the layers of a network, ranks
HISTOGRAMS = "magma"  # histograms over time
DIGITS = "gray"
PIXELS = "Greys"  # behind the numbers of a digit: 0 is white
WEIGHTS = "RdBu_r"  # negative, 0, positive
RIGHT, MISTAKES = "Greens", "Reds"  # cells of a confusion matrix

# single colours of a sweep's report
MEAN = "#1f4e79"  # means and their intervals
JOBS = "0.62"  # single jobs, behind the means
BEST = "#d2691e"
MISSING = "#c0392b"  # jobs without the metric
NAMES = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#17becf")  # unordered values
