"""What records say: accuracy with intervals, ranks, components of variance, the effect of tuning, published figures.

Each module reads the DataFrame of ``Records.table()`` and refuses one that is mixed or has holes (``select``).
"""
