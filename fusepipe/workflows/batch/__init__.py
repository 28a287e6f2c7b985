"""``fusepipe batch``: fuses the clips of a manifest, on this machine or on a Ray cluster.

::

    manifest --> entries --> [queue: order, retries] --> pool of workers --> records, report
                                                         (one engine each)

The queue is the same for both pools; a worker gets one clip at a time. What is finished is known from the records that
workers write beside the outputs, so that an interrupted batch continues where it stopped.

Imported by ``commands.batch`` only.
"""
