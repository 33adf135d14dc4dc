"""`python -m rlrep.bench`: grids of runs that answer whether a head helps."""
