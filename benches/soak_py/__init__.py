"""Mixed load with kills: `benches/soak.py`."""
