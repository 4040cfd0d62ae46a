"""What the commands do; each imports what it needs when it is called."""
