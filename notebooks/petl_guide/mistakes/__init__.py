"""Analyses of chapter 5: do methods make different mistakes, and do ensembles gain?"""
