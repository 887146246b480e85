"""The command line `wardstream`: one module per family of commands, each with a `register(app)`.

stdout carries the answer, stderr the progress; exit 0 = done and right, 1 = done but something is wrong,
2 = wrong use or bad input, 3 = something is missing on the machine.
"""
