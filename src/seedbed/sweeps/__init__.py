"""The life of a sweep: its jobs are composed, written down, run where there is room, resumed, and summed up.

Nothing here knows torch or training: the launcher is given a function to run on a config. A job is over when the
function has left a metrics.json in the job's folder.
"""
