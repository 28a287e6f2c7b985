"""The command line: click options and printed text; module = command = workflow = test, a module per command.

Imported by ``cli`` alone, each module when its command is used.
"""
