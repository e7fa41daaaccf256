"""What is done with the words of a request: private data masked, key terms taken, repeated texts found. Pure."""
