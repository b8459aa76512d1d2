"""Analyses of chapter 4: are tuned methods alike with few images?"""
