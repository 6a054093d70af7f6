"""A study is a function f(lab, …) → Findings: an experiment with one question (scripts/study.py runs it).

The lab builds networks and trains sweeps from overrides, as one types them for train.py; a study measures and draws.
"""
