"""``python -m cluster_store_cli`` is the program ``cluster-store``."""

from .main import run

run()
