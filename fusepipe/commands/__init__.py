"""The command line: click options and printed text only; module = command = workflow = test.

Imported by ``cli`` alone, each module when its command is used.
"""
