"""Ten sets of photographs and PACS, made anew from public repositories at pinned commits."""
