"""Merging tables so that reads stay few and space small.

picker  what to merge: pure, from a version
job     doing it: tables in, a version edit out
"""
