"""Prices as data: the published catalogue, the rule of bed days, and what runs by the hour. Pure but for reading files.

catalogue   the price list as a file: every row with its line, a file with one problem refused whole
rules       what is charged: bed days from where the patient lay, hours of what ran, and what a correction changes
"""
