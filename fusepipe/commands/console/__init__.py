"""What several commands share: option types, options of a training, the width of tables, the end of a run.

Imported by the modules of ``commands`` alone.
"""
