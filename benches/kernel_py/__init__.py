"""The parts of benches/kernel.py."""
