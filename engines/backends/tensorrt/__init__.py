"""TensorRT and TensorRT-RTX: library, plan, execution slots, runtime, and the double that tests run on."""
