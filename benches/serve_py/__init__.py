"""The parts of benches/serve.py."""
