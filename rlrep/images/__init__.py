"""Image files as arrays, without torch: folders of them, what is in a file, and the cache of what was decoded once."""
