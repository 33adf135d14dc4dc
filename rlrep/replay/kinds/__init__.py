"""The kinds of pair, one file each: what a head asks for, what it gets, and how it is drawn."""
