"""The command line of cluster-store, installed under the import name ``cluster_store_cli``."""
