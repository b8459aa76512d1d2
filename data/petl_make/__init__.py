"""What makes the data: drawn tasks, small backbones, packs of VTAB-1K, zero-shot heads, measured costs."""
