"""The papers a family takes home, as PDF/A: the same amounts as the ledger, or no paper at all.

model.py      what each document shows; one that does not add up cannot exist
words.py      every printed word, in Chinese and English
views.py      a document as plain text for the templates: money, times and groups are written here and nowhere else
render.py     document -> PDF bytes; in a process of its own for services
templates/    Typst: where things stand on the page. No sums, no decisions about money
fonts/        the Chinese font, with its licence

It knows neither doors nor SQL: whoever calls has read the account and may show it (S1, S6).
"""
