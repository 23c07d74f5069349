"""cluster-store: a masterless, audited configuration store for machines that get cut off from each other.

The doors for programs are ``cluster_store.bootstrap`` (initialise, submit, execute, serve) and
``cluster_store.adapters.sqlite_reader.StoreReader`` (read a store, whether or not its daemon runs).
"""
