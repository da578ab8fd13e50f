"""What a simulated sleep does, and which part of it is worth something: `python -m benchmarks explain`."""
