"""The narrow CUDA interface (memory, copies, streams, events, graphs) over cuda-bindings or PyCUDA."""
