"""Which infrared frame belongs to which visible frame, recorded and live; camera clocks, freezes, degradation.

Pure logic: no threads, no sleeping; time is passed in.
"""
