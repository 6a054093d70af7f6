"""A study is f(lab, …) → Findings: an experiment with one question, a table and a picture (scripts/study.py).

The lab makes networks and trains sweeps from words of train.py's command line; what is measured and drawn is here.
"""
