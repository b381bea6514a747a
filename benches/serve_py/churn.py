"""x"""
DEFAULTS = {"rows": 50_000, "rounds": 3}
def options(command): pass
def run(args): pass
