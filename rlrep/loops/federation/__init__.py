"""Federated learning as a run: `rlrep.federate`."""
