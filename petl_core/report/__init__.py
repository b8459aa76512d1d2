"""What the chapters show: figures, tables, exercises, and the records behind them."""

from petl_core.report.results import Results, open_results

__all__ = ["Results", "open_results"]
